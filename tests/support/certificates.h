/* Certificates for tests, made on the spot: an authority, and what it signs. PEM texts, to be freed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct certificate {
    void *x509, *key; /* OpenSSL's */
    char *certificate_pem, *key_pem;
};

/* `issuer` NULL makes an authority. Valid from begin_s to end_s, seconds since 1970. */
void certificate_make(struct certificate *certificate, const char *name, const struct certificate *issuer, int64_t begin_s,
                      int64_t end_s);
void certificate_free(struct certificate *certificate);
