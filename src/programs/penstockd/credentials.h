/* penstockd's credentials, from the files that its options name. Not for private keys with a passphrase. */
#pragma once

#include "programs/penstockd/options.h"
#include "wire/tls/tls.h"

enum { CREDENTIALS_TEXTS = 3 }; /* certificate, key, authority */

/* The texts of three PEM files, which go together: all of them or (paths NULL) none. False: error names the option that is
 * missing, or whose file is unfit. What is there is given back by credentials_forget(), also then. */
bool credentials_read(const char *const names[CREDENTIALS_TEXTS], const char *const paths[CREDENTIALS_TEXTS],
                      char *ret_texts[CREDENTIALS_TEXTS], struct error *error);
/* A text file of at most 256 KiB. NULL: error. */
char *credentials_read_file(const char *option, const char *path, struct error *error);
/* Overwrites and frees it. NULL is fine. */
void credentials_forget(char *take_text);

/* For the server, and for what this node asks of others as a client. Both NULL if the options name none. ERROR_INVALID names the
 * option: some but not all are given, a file cannot be read, or holds nothing that fits. */
bool credentials_load(const struct daemon_options *options, struct tls_context **ret_server, struct tls_context **ret_client,
                      struct error *error);
