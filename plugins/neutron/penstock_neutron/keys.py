"""networking-spp's keys and values in etcd. Must not know: how etcd is spoken to."""

import json

ROOT = "/spp/openstack/"
AGENT_TYPE = "SPP neutron agent"
AGENT_BINARY = "neutron-spp-agent"
FREE = "None"


def configuration(host):
    return f"{ROOT}configuration/{host}"


def vhosts(host, network=None):
    return f"{ROOT}vhost/{host}/" + (f"{network}/" if network is not None else "")


def bind_port(host, port):
    return f"{ROOT}bind_port/{host}/{port}"


def action(host, port):
    return f"{ROOT}action/{host}/{port}"


def port_status(host, port):
    return f"{ROOT}port_status/{host}/{port}"


def agent(host):
    return f"{ROOT}agent/{host}"


def read_configuration(text):
    """The NICs of a host, of either form; none of what is not a configuration."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return []
    nics = value.get("vf") if isinstance(value, dict) else value
    if not isinstance(nics, list):
        return []
    return [nic for nic in nics if isinstance(nic, dict) and isinstance(nic.get("physical_network"), str)]
