/* penstockd's TLS credentials, from the files that its options name. Not for private keys with a passphrase. */
#pragma once

#include "programs/penstockd/options.h"
#include "wire/tls/tls.h"

/* For a server. *ret_context: NULL if the options name none. ERROR_INVALID names the option: some but not all are given, a file
 * cannot be read, or holds nothing that fits. */
bool credentials_load(const struct daemon_options *options, struct tls_context **ret_context, struct error *error);
