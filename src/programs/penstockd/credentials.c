#include "programs/penstockd/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PEM_BYTES_MAX KIB(256)

/* A text file, to be freed; NULL: error says why. */
static char *file_read(const char *option, const char *path, struct error *error) {
    FILE *file = fopen(path, "re");
    char *text = file == NULL ? NULL : malloc(PEM_BYTES_MAX + 1);
    if (text == NULL) {
        error_invalid(error, option, path, "a file that can be read (%s)", strerrordesc_np(errno));
        if (file != NULL)
            fclose(file);
        return NULL;
    }
    size_t length = fread(text, 1, PEM_BYTES_MAX + 1, file);
    bool good = !ferror(file) && length > 0 && length <= PEM_BYTES_MAX;
    fclose(file);
    if (good) {
        text[length] = '\0';
        return text;
    }
    error_invalid(error, option, path, "a file with PEM, at most 256 KiB");
    free(text);
    return NULL;
}

static void text_forget(char *text) {
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

bool credentials_load(const struct daemon_options *options, struct tls_context **ret_context, struct error *error) {
    static const char *const names[] = {"--tls-certificate", "--tls-key", "--tls-ca"};
    const char *paths[] = {options->tls_certificate, options->tls_key, options->tls_ca};
    char *texts[array_count(paths)] = {0};
    unsigned given = 0;
    bool ok = true;
    *ret_context = NULL;
    for (unsigned i = 0; i < array_count(paths); i++)
        given += paths[i] != NULL;
    if (given == 0)
        return options->tls_client_name == NULL ||
               error_invalid(error, "--tls-client-name", options->tls_client_name, "the other --tls- options beside it");
    for (unsigned i = 0; ok && i < array_count(paths); i++) {
        if (paths[i] == NULL)
            ok = error_invalid(error, names[i], "nothing", "a file: --tls-certificate, --tls-key and --tls-ca go together");
        else
            ok = (texts[i] = file_read(names[i], paths[i], error)) != NULL;
    }
    struct tls_options tls = {.server = true,
                              .certificate_pem = texts[0],
                              .key_pem = texts[1],
                              .ca_pem = texts[2],
                              .peer_name = options->tls_client_name};
    ok = ok && tls_context_create(&tls, ret_context, error);
    for (unsigned i = 0; i < array_count(texts); i++)
        text_forget(texts[i]);
    return ok;
}
