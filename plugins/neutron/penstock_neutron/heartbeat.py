"""Tells neutron that this host's agent lives, as long as it does: penstockd keeps a key in etcd by a lease (--agent-lease), and is not
spoken for when that is gone. How many vhosts of each network are free goes with it.

Must not know: penstockd."""

import sys

from neutron_lib import context
from oslo_config import cfg
from oslo_log import log

from penstock_neutron import driver, etcd, keys

LOG = log.getLogger(__name__)


class Heartbeat:
    def __init__(self, host, store, report):
        """`report`: called with a context and an agent's state, as neutron's PluginReportStateAPI.report_state is."""
        self.host, self.etcd, self.report = host, store, report
        self.context = context.get_admin_context_without_session()
        self.first = True

    def state(self):
        """The agent's state for neutron; None while there is no agent."""
        if self.etcd.get(keys.agent(self.host)) is None:
            return None
        free = {}
        for nic in keys.read_configuration(self.etcd.get(keys.configuration(self.host))):
            network = nic["physical_network"]
            free[network] = sum(value == keys.FREE for value in self.etcd.list(keys.vhosts(self.host, network)).values())
        state = {"agent_type": keys.AGENT_TYPE, "binary": keys.AGENT_BINARY, "host": self.host, "topic": "N/A",
                 "configurations": {"free_vhosts": free, "physical_networks": sorted(free)}}  # fmt: skip
        if self.first:
            state["start_flag"] = True
        return state

    def beat(self):
        """One report, if there is something to report; True if neutron has it."""
        try:
            state = self.state()
            if state is None:
                LOG.warning("there is no agent on %s: nothing is reported", self.host)
                return False
            self.report(self.context, state)
        except Exception as failure:  # neutron or etcd is away: the next one may do
            LOG.error("no heartbeat of %s: %s", self.host, failure)
            return False
        self.first = False
        return True


def main():
    import time

    from neutron.agent import rpc as agent_rpc
    from neutron.common import config
    from neutron.conf.agent import common as agent_config
    from neutron_lib.agent import topics

    config.register_common_config_options()
    driver.register_options()
    agent_config.register_agent_state_opts_helper(cfg.CONF)
    config.init(sys.argv[1:])
    config.setup_logging()
    store = etcd.Etcd(cfg.CONF.spp.etcd_host, cfg.CONF.spp.etcd_port)
    heartbeat = Heartbeat(cfg.CONF.host, store, agent_rpc.PluginReportStateAPI(topics.REPORTS).report_state)
    while True:
        heartbeat.beat()
        time.sleep(cfg.CONF.AGENT.report_interval)


if __name__ == "__main__":
    main()
