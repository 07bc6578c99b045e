/* What the verbs of the packet plane share. */
#pragma once

#include "cli/cli.h"

extern const struct cli_verb cli_packet_verbs[]; /* path NULL ends them */

/* A request to spp-ctl's REST, at --rest or where it is usually. The body is taken (NULL = none); *ret_answer is the caller's,
 * NULL if the answer has none. False: cli->error has the answer's own words. */
bool cli_rest(struct cli *cli, const char *method, const char *path, json_t *take_body, json_t **ret_answer);
/* The same where there is no answer but that it is done. */
bool cli_rest_do(struct cli *cli, const char *method, const char *path, json_t *take_body);

bool cli_packet_setup(struct cli *cli);
bool cli_packet_top(struct cli *cli);
bool cli_packet_policy(struct cli *cli);
bool cli_packet_capture(struct cli *cli);
/* "IP:PORT" or "[IP]:PORT". False: cli->error names the option. */
bool cli_packet_place(struct cli *cli, const char *option, const char *text, struct host_address *ret);
