/* The file of options: YAML, one mapping. What is not as it should be is told with its line and column. The parser is libyaml's,
 * without a layer that knows schemas: the table of options is the schema, for the command line as well. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <yaml.h>

#include "programs/penstockd/options.h"

enum { SEEN_MAX = 64 };

struct config {
    struct daemon_options *options;
    const char *path;
    struct error *error;
    yaml_parser_t parser;
    char *seen[SEEN_MAX];
    unsigned seen_count;
};

static bool fail_at(struct config *config, const yaml_mark_t *mark, const char *what) {
    return error_set(config->error, ERROR_DAMAGED, "%s:%zu:%zu: %s", config->path, mark->line + 1, mark->column + 1, what);
}

/* The next event, which is the caller's to delete. */
static bool next(struct config *config, yaml_event_t *event) {
    char what[160];
    if (yaml_parser_parse(&config->parser, event) != 0)
        return true;
    snprintf(what, sizeof(what), "%s", config->parser.problem != NULL ? config->parser.problem : "not YAML");
    return fail_at(config, &config->parser.problem_mark, what);
}

/* A scalar's text, which stays for good: options point to it. NULL: the error is set. */
static char *take_scalar(struct config *config, const yaml_event_t *event, const char *expected) {
    const char *text = (const char *)event->data.scalar.value;
    if (event->type != YAML_SCALAR_EVENT || event->data.scalar.tag != NULL || event->data.scalar.anchor != NULL) {
        fail_at(config, &event->start_mark, expected);
        return NULL;
    }
    char *copy = strlen(text) == event->data.scalar.length ? strdup(text) : NULL;
    if (copy == NULL)
        fail_at(config, &event->start_mark, "a text with a zero byte in it");
    return copy;
}

static bool set(struct config *config, const char *name, const yaml_event_t *event) {
    char what[400];
    struct error error;
    char *value = take_scalar(config, event, "expected a value in one word or in quotes");
    if (value == NULL)
        return false;
    if (config->options->text_count == DAEMON_TEXTS_MAX) {
        free(value);
        return fail_at(config, &event->start_mark, "more values than there can be");
    }
    config->options->texts[config->options->text_count++] = value;
    if (daemon_option_set(config->options, name, value, &error))
        return true;
    snprintf(what, sizeof(what), "%s is '%s': expected %s", name, error.value, error.expected);
    return fail_at(config, &event->start_mark, what);
}

static bool set_list(struct config *config, const char *name) {
    for (;;) {
        yaml_event_t event;
        if (!next(config, &event))
            return false;
        bool end = event.type == YAML_SEQUENCE_END_EVENT, ok = end || set(config, name, &event);
        yaml_event_delete(&event);
        if (end || !ok)
            return ok;
    }
}

/* A name that is an option's, for the first time. It is kept among those seen. */
static bool check_name(struct config *config, const char *name, const yaml_event_t *event) {
    struct daemon_options scratch = *config->options;
    struct error error;
    char what[400];
    if (!daemon_option_set(&scratch, name, "", &error) && error.code == ERROR_NOT_FOUND) {
        snprintf(what, sizeof(what), "there is no option %.100s (penstockd --help lists them)", name);
        return fail_at(config, &event->start_mark, what);
    }
    for (unsigned i = 0; i < config->seen_count; i++)
        if (strcmp(config->seen[i], name) == 0) {
            snprintf(what, sizeof(what), "%.100s is given twice", name);
            return fail_at(config, &event->start_mark, what);
        }
    assert(config->seen_count < SEEN_MAX);
    return true;
}

/* The pair whose key is at hand. */
static bool read_pair(struct config *config, const yaml_event_t *key) {
    yaml_event_t value;
    char *name = take_scalar(config, key, "expected the name of an option");
    if (name == NULL)
        return false;
    if (!check_name(config, name, key)) {
        free(name);
        return false;
    }
    config->seen[config->seen_count++] = name;
    if (!next(config, &value))
        return false;
    bool ok = value.type == YAML_SEQUENCE_START_EVENT && daemon_option_is_list(name) ? set_list(config, name)
                                                                                     : set(config, name, &value);
    yaml_event_delete(&value);
    return ok;
}

static bool read_mapping(struct config *config) {
    for (;;) {
        yaml_event_t event;
        if (!next(config, &event))
            return false;
        bool end = event.type == YAML_MAPPING_END_EVENT, ok = end || read_pair(config, &event);
        yaml_event_delete(&event);
        if (end || !ok)
            return ok;
    }
}

/* Stream, document, mapping, and their ends; an empty file says nothing. */
static bool read_all(struct config *config) {
    for (bool done = false; !done;) {
        yaml_event_t event;
        bool ok = next(config, &event);
        if (!ok)
            return false;
        switch (event.type) {
        case YAML_MAPPING_START_EVENT: ok = read_mapping(config); break;
        case YAML_STREAM_END_EVENT: done = true; break;
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_START_EVENT:
        case YAML_DOCUMENT_END_EVENT: break;
        case YAML_SCALAR_EVENT: /* "---" alone, or comments only */
            ok = event.data.scalar.length == 0 || fail_at(config, &event.start_mark, "expected NAME: VALUE");
            break;
        default: ok = fail_at(config, &event.start_mark, "expected NAME: VALUE");
        }
        yaml_event_delete(&event);
        if (!ok)
            return false;
    }
    return true;
}

bool daemon_config_read(struct daemon_options *options, const char *path, struct error *error) {
    struct config config = {.options = options, .path = path, .error = error};
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return error_set_errno(error, errno, "%s cannot be read", path);
    bool ok = yaml_parser_initialize(&config.parser) != 0 || error_set(error, ERROR_NO_MEMORY, "no memory");
    if (ok) {
        yaml_parser_set_input_file(&config.parser, file);
        ok = read_all(&config);
        yaml_parser_delete(&config.parser);
    }
    for (unsigned i = 0; i < config.seen_count; i++)
        free(config.seen[i]);
    fclose(file);
    return ok;
}
