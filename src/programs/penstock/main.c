/* penstock: the command line. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#ifdef WITH_CONTROL
#include "cli/node/node.h"
#include "cli/packet/packet.h"
#endif
#include "host/linux/linux.h"

int main(int argc, char **argv) {
    struct host *host;
    struct reactor *reactor;
    struct host_linux_options host_options = {.no_io_uring = true}; /* it does no file I/O */
    struct reactor_options options = {.name = "penstock", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    if (host_linux_create(&host_options, &host) != 0 || reactor_create(host, &options, &reactor) != 0) {
        fprintf(stderr, "penstock: cannot start: no memory, or too many open files\n");
        return EXIT_FAILURE;
    }
    const struct cli_extension *extension = NULL;
#ifdef WITH_CONTROL
    struct cli_extension with_packet = cli_node_extension;
    with_packet.more_verbs = cli_packet_verbs;
    extension = &with_packet;
#endif
    int status = cli_main(reactor, host_linux_loop_run, extension, host_linux_is_terminal(2), argc, argv);
    reactor_destroy(reactor);
    host_linux_destroy(host);
    return status;
}
