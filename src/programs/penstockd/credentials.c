#include "programs/penstockd/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PEM_BYTES_MAX KIB(256)

char *credentials_read_file(const char *option, const char *path, struct error *error) {
    FILE *file = fopen(path, "re");
    char *text = file == NULL ? NULL : malloc(PEM_BYTES_MAX + 1);
    if (text == NULL) {
        error_invalid(error, option, path, "a file that can be read (%s)", error_errno_words(errno));
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
    error_invalid(error, option, path, "a file with text, at most 256 KiB");
    free(text);
    return NULL;
}

void credentials_forget(char *take_text) {
    if (take_text != NULL)
        explicit_bzero(take_text, strlen(take_text));
    free(take_text);
}

bool credentials_read(const char *const names[CREDENTIALS_TEXTS], const char *const paths[CREDENTIALS_TEXTS],
                      char *ret_texts[CREDENTIALS_TEXTS], struct error *error) {
    unsigned given = 0;
    bool ok = true;
    for (unsigned i = 0; i < CREDENTIALS_TEXTS; i++)
        given += paths[i] != NULL;
    for (unsigned i = 0; given > 0 && ok && i < CREDENTIALS_TEXTS; i++) {
        if (paths[i] == NULL)
            ok = error_invalid(error, names[i], "nothing", "a file: %s, %s and %s go together", names[0], names[1], names[2]);
        else
            ok = (ret_texts[i] = credentials_read_file(names[i], paths[i], error)) != NULL;
    }
    return ok;
}

bool credentials_load(const struct daemon_options *options, struct tls_context **ret_server, struct tls_context **ret_client,
                      struct error *error) {
    static const char *const names[] = {"--tls-certificate", "--tls-key", "--tls-ca"};
    const char *paths[] = {options->tls_certificate, options->tls_key, options->tls_ca};
    char *texts[CREDENTIALS_TEXTS] = {0};
    *ret_server = *ret_client = NULL;
    bool ok = credentials_read(names, paths, texts, error);
    if (ok && texts[0] == NULL && options->tls_client_name != NULL)
        ok = error_invalid(error, "--tls-client-name", options->tls_client_name, "the other --tls- options beside it");
    if (ok && texts[0] == NULL && options->tls_node_name != NULL)
        ok = error_invalid(error, "--tls-node-name", options->tls_node_name, "the other --tls- options beside it");
    struct tls_options tls = {.server = true,
                              .certificate_pem = texts[0],
                              .key_pem = texts[1],
                              .ca_pem = texts[2],
                              .peer_name = options->tls_client_name};
    struct tls_options client = tls;
    client.server = false;
    client.peer_name = NULL; /* each node's: tls_context_for() */
    if (ok && texts[0] != NULL)
        ok = tls_context_create(&tls, ret_server, error) && tls_context_create(&client, ret_client, error);
    for (unsigned i = 0; i < CREDENTIALS_TEXTS; i++)
        credentials_forget(texts[i]);
    return ok;
}
