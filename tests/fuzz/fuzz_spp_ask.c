/* Fuzzes what is said to Soft Patch Panel's own processes and what they answer. The first byte says what is asked; lines follow:
 * a word of the path, the request's body, the process's answer. A command is words of printable characters whatever the body has;
 * what is made of any answer can be told as JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "gateway/spp/ask.h"
#include "gateway/spp/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WORDS_MAX = 4 };

/* As REST's paths have them behind the process; "*" is the word of the input. */
static const struct {
    const char *type, *method, *words[WORDS_MAX];
} requests[] = {
    {"vf", "GET", {0}},
    {"vf", "DELETE", {0}},
    {"vf", "POST", {"components"}},
    {"vf", "DELETE", {"components", "*"}},
    {"vf", "PUT", {"components", "*", "ports"}},
    {"vf", "PUT", {"classifier_table"}},
    {"mirror", "GET", {0}},
    {"mirror", "PUT", {"components", "*", "ports"}},
    {"nfv", "GET", {0}},
    {"nfv", "PUT", {"forward"}},
    {"nfv", "PUT", {"ports"}},
    {"nfv", "PUT", {"patches"}},
    {"nfv", "DELETE", {"patches"}},
    {"primary", "GET", {"status"}},
    {"primary", "DELETE", {"status"}},
    {"primary", "PUT", {"launch"}},
    {"primary", "POST", {"flow_rules", "port_id", "0"}},
    {"pcap", "GET", {0}},
    {"pcap", "PUT", {"capture"}},
};

static void check_told(json_t *take_value) {
    char *text = json_dumps(take_value, JSON_ENCODE_ANY);
    assert(text != NULL);
    free(text);
    json_decref(take_value);
}

static void check_command(const char *type, const struct ask *ask) {
    struct command command = {0};
    struct error error;
    size_t length = strlen(ask->text);
    assert(length > 0 && length <= ASK_BYTES_MAX && ask->text[0] != ' ' && ask->text[length - 1] != ' ');
    for (size_t i = 0; i < length; i++)
        assert(ask->text[i] >= ' ' && ask->text[i] <= '~' && (ask->text[i] != ' ' || ask->text[i + 1] != ' '));
    /* Our own seats understand most of it, and say why not of the rest. */
    if (command_parse(type, 1, ask->text, &command, &error))
        command_fini(&command);
    else
        assert(error.text[0] != '\0');
}

static void check_answer(const char *type, const struct ask *ask, const json_t *answer) {
    json_t *body;
    struct error error;
    unsigned id = 0;
    char told[12] = "";
    if (ask_read_hello(answer, &id, told))
        assert(id > 0 && told[0] != '\0');
    if (!ask_read(type, ask, answer, &body, &error)) {
        assert(body == NULL && error.text[0] != '\0');
        return;
    }
    assert(ask->status == (body != NULL));
    if (body == NULL)
        return;
    check_told(ask_cpu_usage(type, body));
    check_told(body);
}

/* The next line as a text of its own, to be freed. */
static char *next_line(const uint8_t **data, size_t *size) {
    const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
    size_t length = end != NULL ? (size_t)(end - *data) : *size;
    char *line = malloc(length + 1);
    assert(line != NULL);
    memcpy(line, *data, length);
    line[length] = '\0';
    length += end != NULL;
    *data += length;
    *size -= length;
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 16384)
        return 0;
    unsigned which = data[0] % array_count(requests), count = 0;
    const char *type = requests[which].type;
    data++;
    size--;
    char *word = next_line(&data, &size), *text = next_line(&data, &size), *words[WORDS_MAX] = {0};
    json_t *body = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    json_t *answer = size > 0 ? json_loadb((const char *)data, size, 0, NULL) : NULL;
    struct ask ask;
    struct error error;
    for (; count < WORDS_MAX && requests[which].words[count] != NULL; count++)
        words[count] = requests[which].words[count][0] == '*' ? word : (char *)(uintptr_t)requests[which].words[count];
    if (!ask_make(type, requests[which].method, words, count, body, &ask, &error)) {
        assert(error.text[0] != '\0');
    } else {
        check_command(type, &ask);
        if (answer != NULL)
            check_answer(type, &ask, answer);
    }
    json_decref(body);
    json_decref(answer);
    free(word);
    free(text);
    return 0;
}
