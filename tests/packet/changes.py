"""Random changes of a running plane's ports, components and tables, and what there must be after them. Everything it makes is its own
(names that begin with "x"); a classifier "in" that somebody else made gets entries and outputs besides those it has.

Must not know: what moves through the plane meanwhile."""

import os
import random

from plane import Refused

KINDS = ("ring", "ring", "ring", "null", "vhost_user", "memif")
TYPES = ("forward", "merge", "classifier", "mirror")
PORTS, COMPONENTS, MACS = 10, 6, 12
VLANS = (None, 0, 7, 4000, 4095)  # those of others are their own
OPERATIONS = ({"operation": "none"}, {"operation": "del"}, {"operation": "add", "id": 7}, {"operation": "add", "id": 4000, "pcp": 5})


class Changes:
    """`call`: of a plane; `workers`: how many it has; `refused`: what it raises when the plane refuses."""

    def __init__(self, call, seed, folder, workers, refused=(Refused, RuntimeError)):
        self.call, self.dice, self.folder, self.workers, self.refused = call, random.Random(seed), folder, workers, refused
        self.ports, self.components = {}, {"in": "classifier"}
        self.ends = {}  # (port, direction): (component, operation)
        self.entries = {}  # (component, mac, vlan): port
        self.done = self.tried = 0
        self.generation = 0

    # ---- what can be done; each returns what to remember if the plane did it ----

    def port_create(self):
        name = f"x{self.dice.randrange(PORTS)}"
        kind = self.dice.choice(KINDS)
        more = {}
        if kind in ("vhost_user", "memif"):
            more["socket"] = os.path.join(self.folder, name)
        if kind == "memif":
            more["server"] = True
        return ("packet_port_create", {"name": name, "kind": kind, **more}, lambda: self.ports.update({name: kind}), name not in self.ports)

    def port_delete(self):
        name = f"x{self.dice.randrange(PORTS)}"
        used = any(port == name for port, _ in self.ends) or name in self.entries.values()
        return ("packet_port_delete", {"name": name}, lambda: self.ports.pop(name), name in self.ports and not used)

    def component_create(self):
        name, kind = f"xc{self.dice.randrange(COMPONENTS)}", self.dice.choice(TYPES)
        words = {"name": name, "type": kind, "worker": self.dice.randrange(self.workers)}
        return ("packet_component_create", words, lambda: self.components.update({name: kind}), name not in self.components)

    def component_delete(self):
        name = f"xc{self.dice.randrange(COMPONENTS)}"

        def gone():
            del self.components[name]
            self.ends = {end: where for end, where in self.ends.items() if where[0] != name}
            self.entries = {entry: port for entry, port in self.entries.items() if entry[0] != name}

        return ("packet_component_delete", {"name": name}, gone, name in self.components)

    def attach(self):
        component, port = self.dice.choice(sorted(self.components)), f"x{self.dice.randrange(PORTS)}"
        direction = "tx" if component == "in" else self.dice.choice(("rx", "tx"))
        operation = self.dice.choice(OPERATIONS)
        words = {"component": component, "port": port, "direction": direction, "vlan": operation}
        # How many a component takes is the plane's to say.
        allowed = None if port in self.ports and (port, direction) not in self.ends else False
        return ("packet_component_attach", words, lambda: self.ends.update({(port, direction): (component, operation)}), allowed)

    def detach(self):
        if not self.ends:
            return None
        port, direction = self.dice.choice(sorted(self.ends))
        component = self.ends[port, direction][0]
        return ("packet_component_detach", {"component": component, "port": port, "direction": direction}, lambda: self.ends.pop((port, direction)), True)

    def set_vlan(self):
        if not self.ends:
            return None
        end, operation = self.dice.choice(sorted(self.ends)), self.dice.choice(OPERATIONS)
        component = self.ends[end][0]
        words = {"component": component, "port": end[0], "direction": end[1], "vlan": operation}
        return ("packet_component_set_vlan", words, lambda: self.ends.update({end: (component, operation)}), True)

    def entry(self):
        component = self.dice.choice([name for name, kind in sorted(self.components.items()) if kind == "classifier"])
        mac = self.dice.choice([f"fa:16:3e:ff:00:{n:02x}" for n in range(MACS)] + ["default"])
        return component, mac, self.dice.choice(VLANS)

    @staticmethod
    def entry_words(entry, port):
        component, mac, vlan = entry
        return {"component": component, "mac": mac, "port": port, **({} if vlan is None else {"vlan": vlan})}

    def entry_add(self):
        entry = self.entry()
        outputs = sorted(port for (port, direction), (name, _) in self.ends.items() if direction == "tx" and name == entry[0])
        port = self.dice.choice(outputs) if outputs else "x0"
        return ("packet_classifier_add_entry", self.entry_words(entry, port), lambda: self.entries.update({entry: port}), bool(outputs) and entry not in self.entries)

    def entry_delete(self):
        entry = self.dice.choice(sorted(self.entries, key=str)) if self.entries else self.entry()
        words = self.entry_words(entry, self.entries.get(entry, "x0"))
        return ("packet_classifier_delete_entry", words, lambda: self.entries.pop(entry), entry in self.entries)

    def policy(self):
        port = f"x{self.dice.randrange(PORTS)}"
        words = self.dice.choice(({}, {"macs": ["fa:16:3e:ff:00:01"]}, {"vlan_check": True, "vlans": [7]}, {"rx_rate": {"packets_per_s": 1000}}))
        return ("packet_port_set_policy", {"name": port, **words}, lambda: None, port in self.ports)

    # ---- one after the other ----

    def step(self):
        """One attempt; what the plane refuses must have been refusable, and what it does must have been allowed."""
        kinds = (
            self.port_create, self.port_delete, self.component_create, self.component_delete, self.attach, self.attach, self.detach,
            self.set_vlan, self.set_vlan, self.entry_add, self.entry_add, self.entry_add, self.entry_delete, self.entry_delete, self.policy,
        )  # fmt: skip
        chosen = self.dice.choice(kinds)()
        if chosen is None:
            return
        method, words, remember, allowed = chosen
        self.tried += 1
        try:
            generation = self.call(method, **words)["generation"]
        except self.refused as refusal:
            assert not allowed, f"{method} {words}: {refusal}"
            return
        assert allowed is not False, f"{method} {words} was done"
        assert generation > self.generation, f"{method}: generation {generation} after {self.generation}"
        self.generation = generation
        self.done += 1
        remember()

    def check(self):
        """The plane has what it was asked for, and nothing else of ours."""
        ports = {port["name"]: port["kind"] for port in self.call("packet_get_ports") if port["name"].startswith("x")}
        assert ports == self.ports, (ports, self.ports)
        ends, entries, components = {}, {}, {}
        for component in self.call("packet_get_components"):
            name = component["name"]
            if name == "in" or name.startswith("xc"):
                components[name] = component["type"]
            for direction in ("rx", "tx"):
                for end in component[direction]:
                    if end["port"].startswith("x"):
                        ends[end["port"], direction] = (name, {key: value for key, value in end["vlan"].items()})
            if component["type"] == "classifier":
                for entry in self.call("packet_get_classifier", component=name):
                    if entry["port"].startswith("x"):
                        entries[name, entry["mac"], entry.get("vlan")] = entry["port"]
        assert components == self.components, (components, self.components)
        assert entries == self.entries, (entries, self.entries)
        assert {end: where[0] for end, where in ends.items()} == {end: where[0] for end, where in self.ends.items()}, (ends, self.ends)
        for end, (_, operation) in self.ends.items():
            got = ends[end][1]
            assert all(got.get(key) == value for key, value in operation.items()), (end, got, operation)
