#include "gateway/spp/body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool required(const char *key, struct error *error) { return error_invalid(error, key, "", BODY_REQUIRED); }

static bool wrong_type(const char *key, const json_t *value, const char *expected, struct error *error) {
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    error_invalid(error, key, shown != NULL ? shown : "", "%s", expected);
    free(shown);
    return false;
}

bool body_text(const json_t *body, const char *key, const char **ret, struct error *error) {
    const json_t *value = json_object_get(body, key);
    if (value == NULL)
        return required(key, error);
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return wrong_type(key, value, "a text", error);
    *ret = json_string_value(value);
    return true;
}

bool body_number(const json_t *body, const char *key, json_int_t max, json_int_t *ret, struct error *error) {
    const json_t *value = json_object_get(body, key);
    char expected[64];
    if (value == NULL)
        return required(key, error);
    snprintf(expected, sizeof(expected), "a number, 0 to %" JSON_INTEGER_FORMAT, max);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > max)
        return wrong_type(key, value, expected, error);
    *ret = json_integer_value(value);
    return true;
}

bool body_object(const json_t *body, const char *key, const json_t **ret, struct error *error) {
    const json_t *value = json_object_get(body, key);
    if (value == NULL)
        return required(key, error);
    if (!json_is_object(value))
        return wrong_type(key, value, "an object", error);
    *ret = value;
    return true;
}

bool body_choice(const json_t *body, const char *key, const char *first, const char *second, bool *ret_first,
                 struct error *error) {
    const char *word;
    if (!body_text(body, key, &word, error))
        return false;
    *ret_first = strcmp(word, first) == 0;
    return *ret_first || strcmp(word, second) == 0 || error_invalid(error, key, word, "%s or %s", first, second);
}

void body_put_error(struct text *to, const struct error *error) {
    if (error->code != ERROR_INVALID || error->field[0] == '\0')
        text_appendf(to, "command error: %s", error->text);
    else if (strcmp(error->expected, BODY_REQUIRED) == 0)
        text_appendf(to, "key(%s) required.", error->field);
    else
        text_appendf(to, "invalid key(%s): %s. Expected %s.", error->field, error->value, error->expected);
}
