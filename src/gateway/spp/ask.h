/* Requests of spp-ctl's REST as the text commands that Soft Patch Panel's own processes take, and their answers as REST gives
 * them: what command.h does, the other way round. Pure. */
#pragma once

#include <jansson.h>

#include "base/error.h"

enum { ASK_BYTES_MAX = 2048 };

struct ask {
    char text[ASK_BYTES_MAX + 1];
    bool status; /* the answer has a body */
    bool exits;  /* the process ends with it */
};

/* Of a request to a process of that type: `words` of its path behind the process ("components", "m", "ports"), and its body.
 * False: error as for REST's own processes. A word of a command holds no blank, so that nobody can put in more words than one. */
bool ask_make(const char *type, const char *method, char *const *words, unsigned count, const json_t *body, struct ask *ret,
              struct error *error);
/* True: *ret_body is what REST tells (NULL = nothing). False: error, the process's words. */
bool ask_read(const char *type, const struct ask *ask, const json_t *answer, json_t **ret_body, struct error *error);
/* "client_id" and "process_type" of the answer to "_get_client_id". False: it is not one. */
bool ask_read_hello(const json_t *answer, unsigned *ret_id, char ret_type[12]);
/* Its part of GET /cpu_usage, of what `status` has told. */
json_t *ask_cpu_usage(const char *type, const json_t *body);
