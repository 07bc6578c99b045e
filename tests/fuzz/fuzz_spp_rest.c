/* Fuzzes spp-ctl's REST: a session of requests, each a line "METHOD PATH BODY", to a wiring with two cards. Each is answered
 * once, with what HTTP can carry; who only looks, or is refused, changes nothing; what is accepted is what a daemon would take up
 * again (packet_keeper.h). */
#include <stdlib.h>
#include <string.h>

#include "gateway/spp/rest.h"
#include "support/packet_keeper.h"
#include "support/step_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REQUESTS_MAX = 64 };

struct answer {
    unsigned count, status;
};

static void on_answer(void *arg, unsigned status, const char *type, const char *text, size_t length) {
    struct answer *answer = arg;
    answer->count++;
    answer->status = status;
    assert(status == 200 || status == 204 || status == 400 || status == 404 || status == 405 || status == 503);
    assert((status == 204) == (text == NULL) && (text == NULL || (strlen(text) == length && length > 0)));
    if (type == NULL || strcmp(type, "application/json") != 0)
        return;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    assert(json != NULL);
    json_decref(json);
}

/* Takes the line apart. */
static void serve(struct spp_rest *rest, const struct packet_control *control, char *line) {
    struct answer answer = {0};
    char *path = strchr(line, ' '), *body = path != NULL ? strchr(path + 1, ' ') : NULL;
    if (path == NULL)
        return;
    *path++ = '\0';
    if (body != NULL)
        *body++ = '\0';
    json_t *before = json_incref(control->wiring);
    struct spp_rest_request request = {.method = line,
                                       .path = path,
                                       .body = body,
                                       .length = body != NULL ? strlen(body) : 0,
                                       .answer = on_answer,
                                       .arg = &answer};
    spp_rest_serve(rest, &request);
    assert(answer.count == 1);
    assert((answer.status == 204 && strcmp(line, "GET") != 0) || control->wiring == before);
    json_decref(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    struct step_host_options stepping = {.seed = 1};
    struct reactor *reactor;
    if (size < 1 || size > 16384)
        return 0;
    struct host *host = step_host_create(&stepping);
    int result = reactor_create(host, &options, &reactor);
    assert(result == 0);
    struct packet_control *control = packet_keeper_create(reactor);
    struct spp_rest_options with = {.reactor = reactor, .control = control};
    struct spp_rest *rest = spp_rest_create(&with);
    assert(rest != NULL);
    for (unsigned i = 0; i < REQUESTS_MAX && size > 0; i++) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t length = end != NULL ? (size_t)(end - data) : size;
        char *line = malloc(length + 1); /* ends where it ends, for the sanitizer */
        assert(line != NULL);
        memcpy(line, data, length);
        line[length] = '\0';
        serve(rest, control, line);
        free(line);
        length += end != NULL;
        data += length;
        size -= length;
    }
    spp_rest_destroy(rest);
    packet_keeper_destroy(control);
    reactor_destroy(reactor);
    step_host_destroy(host);
    return 0;
}
