"""The ML2 mechanism driver: ports of flat and VLAN networks on vhosts of a host's NICs, plugged by the host's agent.

Must not know: how the agent plugs."""

import json
import threading

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api
from oslo_config import cfg
from oslo_log import log

from penstock_neutron import etcd, keys

LOG = log.getLogger(__name__)

OPTIONS = [
    cfg.StrOpt("etcd_host", default="127.0.0.1", help="Where etcd is."),
    cfg.PortOpt("etcd_port", default=2379, help="Its port for clients."),
    cfg.StrOpt("vhost_folder", default="/tmp", help="Where the sockets of vhosts are on compute nodes: sockN."),
    cfg.IntOpt("retry_interval", default=10, min=1, help="Seconds until deleted ports are unplugged where etcd was away."),
    cfg.IntOpt("plug_timeout", default=20, min=1, help="Seconds that an agent may take to plug a port."),
]


def register_options(conf=cfg.CONF):
    conf.register_opts(OPTIONS, "spp")


VIF_TYPES = (portbindings.VIF_TYPE_VHOST_USER, portbindings.VIF_TYPE_BINDING_FAILED)


class SppMechanismDriver(api.MechanismDriver):
    def initialize(self):
        register_options()
        self.etcd = etcd.Etcd(cfg.CONF.spp.etcd_host, cfg.CONF.spp.etcd_port)
        self._deleted = set()  # (host, port) that are still plugged
        self._lock = threading.Lock()

    @property
    def connectivity(self):
        return portbindings.CONNECTIVITY_L2

    # ---- binding ----

    def bind_port(self, context):
        if context.current.get(portbindings.VNIC_TYPE, portbindings.VNIC_NORMAL) != portbindings.VNIC_NORMAL:
            return  # a passed-through device, say: another driver's
        try:
            nics = keys.read_configuration(self.etcd.get(keys.configuration(context.host)))
            if not nics:
                return  # no host of ours
            if not any(agent["alive"] for agent in context.host_agents(keys.AGENT_TYPE)):
                LOG.warning("port %s: the SPP agent of %s is down", context.current["id"], context.host)
                return
            networks = {nic["physical_network"] for nic in nics}
            for segment in context.segments_to_bind:
                if (segment[api.NETWORK_TYPE] in (constants.TYPE_FLAT, constants.TYPE_VLAN)
                        and segment[api.PHYSICAL_NETWORK] in networks):  # fmt: skip
                    self._bind(context, segment)
                    return
        except etcd.Failure as failure:
            LOG.error("port %s cannot be bound on %s: %s", context.current["id"], context.host, failure)

    def _bind(self, context, segment):
        port, host = context.current["id"], context.host
        since = self._ask(context, segment)
        if since is None:
            return
        vhost, revision = since
        if not self.etcd.wait_for(keys.port_status(host, port), "up", revision, cfg.CONF.spp.plug_timeout):
            LOG.error("port %s: the agent of %s has not plugged it within %d s", port, host, cfg.CONF.spp.plug_timeout)
            return
        details = {portbindings.CAP_PORT_FILTER: False,
                   portbindings.VIF_DETAILS_CONNECTIVITY: self.connectivity,
                   portbindings.VHOST_USER_MODE: portbindings.VHOST_USER_MODE_SERVER,
                   portbindings.VHOST_USER_SOCKET: f"{cfg.CONF.spp.vhost_folder}/sock{vhost}"}  # fmt: skip
        context.set_binding(segment[api.ID], portbindings.VIF_TYPE_VHOST_USER, details, status=constants.PORT_STATUS_ACTIVE)

    def _ask(self, context, segment):
        """Asks the agent to plug it; (vhost, the revision before its answer), or None."""
        port, host, network = context.current["id"], context.host, segment[api.PHYSICAL_NETWORK]
        value = {"vhost_id": None, "mac_address": context.current["mac_address"]}
        if segment[api.NETWORK_TYPE] == constants.TYPE_VLAN:
            value["vlan_id"] = segment[api.SEGMENTATION_ID]
        for _ in range(100):
            bound, bound_at, _ = self.etcd.read(keys.bind_port(host, port))
            acts, acts_at, _ = self.etcd.read(keys.action(host, port))
            if acts == "unplug":  # of a life before: the agent is at it
                if not self._wait_unplugged(host, port):
                    return None
                continue
            compares = [etcd.is_at(keys.bind_port(host, port), bound_at), etcd.is_at(keys.action(host, port), acts_at)]
            operations = []
            vhost = self._vhost_of(bound, host, network, port)
            if vhost is None:
                vhost, key = self._find_free(host, network)
                if vhost is None:
                    LOG.error("port %s: no vhost of %s on %s is free", port, network, host)
                    return None
                compares.append(etcd.is_value(key, keys.FREE))
                operations.append(etcd.put(key, port))
            value["vhost_id"] = vhost
            operations += [etcd.delete(keys.port_status(host, port)), etcd.put(keys.bind_port(host, port), json.dumps(value)),
                           etcd.put(keys.action(host, port), "plug")]  # fmt: skip
            revision = self.etcd.transact(compares, operations)
            if revision is not None:
                return vhost, revision
        LOG.error("port %s: others were faster, again and again", port)
        return None

    def _wait_unplugged(self, host, port):
        import time

        deadline = time.monotonic() + cfg.CONF.spp.plug_timeout
        while self.etcd.get(keys.action(host, port)) == "unplug":
            if time.monotonic() > deadline:
                LOG.error("port %s: the agent of %s has not unplugged it", port, host)
                return False
            time.sleep(0.1)
        return True

    def _vhost_of(self, bound, host, network, port):
        """The vhost that the port has from a binding that was begun, if it is of this network."""
        try:
            vhost = json.loads(bound)["vhost_id"]
        except (TypeError, ValueError, KeyError):
            return None
        return vhost if self.etcd.get(f"{keys.vhosts(host, network)}{vhost}") == port else None

    def _find_free(self, host, network):
        prefix = keys.vhosts(host, network)
        for key, value in self.etcd.list(prefix).items():
            if value == keys.FREE and key[len(prefix) :].isdigit():
                return int(key[len(prefix) :]), key
        return None, None

    # ---- unbinding ----

    def _unplug(self, host, port):
        key = keys.action(host, port)
        for _ in range(10):
            value, at, _ = self.etcd.read(key)
            if value is None or value == "unplug" or self.etcd.transact([etcd.is_at(key, at)], [etcd.put(key, "unplug")]):
                return
        raise etcd.Failure(f"{key} changes all the time")

    def _unplug_if(self, host, vif_type, port, outlook="and is unplugged when etcd can be reached"):
        """False: etcd has not taken it."""
        if not host or vif_type not in VIF_TYPES:
            return True
        try:
            self._unplug(host, port)
        except etcd.Failure as failure:
            LOG.error("port %s stays plugged on %s, %s: %s", port, host, outlook, failure)
            return False
        return True

    def update_port_postcommit(self, context):
        if context.original_host and context.original_host != context.host:
            # Not tried later: it may have come back meanwhile, by another process of neutron-server.
            port = context.current["id"]
            self._unplug_if(context.original_host, context.original_vif_type, port,
                            f'and keeps its vhost there, unless "unplug" is put at {keys.action(context.original_host, port)}')  # fmt: skip

    def delete_port_postcommit(self, context):
        if not self._unplug_if(context.host, context.vif_type, context.current["id"]):
            self._unplug_later(context.host, context.current["id"])

    def _unplug_later(self, host, port):
        """A deleted port never comes back, so that this is right whenever etcd can be reached again."""
        with self._lock:
            first = not self._deleted
            self._deleted.add((host, port))
        if first:
            self._start_timer()

    def _start_timer(self):
        timer = threading.Timer(cfg.CONF.spp.retry_interval, self._unplug_deleted)
        timer.daemon = True
        timer.start()

    def _unplug_deleted(self):
        with self._lock:
            waiting = sorted(self._deleted)
        done = set()
        try:
            for host, port in waiting:
                if self._unplug_if(host, portbindings.VIF_TYPE_VHOST_USER, port):
                    done.add((host, port))
        finally:  # whatever happens, somebody tries again
            with self._lock:
                self._deleted -= done
                again = bool(self._deleted)
            if again:
                self._start_timer()
