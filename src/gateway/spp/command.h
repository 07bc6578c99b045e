/* The text commands that spp-ctl gives its processes over their sockets, as requests of its REST, and answers as those processes
 * give them. A command is what one read brings; there is no framing. Pure. */
#pragma once

#include <jansson.h>

#include "base/error.h"

enum { COMMAND_BYTES_MAX = 4096, COMMAND_WORDS_MAX = 64 };

enum command_kind { COMMAND_CLIENT_ID, COMMAND_STATUS, COMMAND_NOTHING, COMMAND_DO };

struct command {
    enum command_kind kind;
    const char *method; /* of the request; NOTHING and CLIENT_ID have none */
    char path[128];
    json_t *body;     /* NULL = none; the caller's */
    char word[24];    /* what was asked for: "add" */
    char subject[40]; /* of what: "ring:0" */
};

/* `type` and `id` of the process that is spoken to. The text ends with a zero byte. False: error says what is wrong with it, in
 * SPP's words where there are any. */
bool command_parse(const char *type, unsigned id, const char *text, struct command *ret, struct error *error);
void command_fini(struct command *command);
/* The answer: `status` and `text` as REST has them (NULL = none); the process's record tells of cores that nothing runs on (NULL
 * = none). A new value. */
json_t *command_answer(const char *type, unsigned id, const struct command *command, const json_t *process, unsigned status,
                       const char *text);
/* The answer to what could not be parsed. */
json_t *command_refusal(const char *type, const char *message);
