/* TLS without a socket, either end, on OpenSSL's memory BIOs: ciphertext in and out, plaintext in and out. Always mutual: both
 * ends show a certificate of the one CA. TLS 1.2 and up, ALPN "h2", no renegotiation, no session tickets, no early data.
 *
 * Calling context: one owner a stream. A context may serve streams of one reactor. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

struct tls_context;
struct tls_stream;

struct tls_options {
    bool server;
    const char *ca_pem, *certificate_pem, *key_pem; /* texts, not paths */
    const char *peer_name; /* a name that the peer's certificate must hold; NULL = any that the CA has signed */
};

/* False: error says which of them is unfit, and why. */
bool tls_context_create(const struct tls_options *options, struct tls_context **ret_context, struct error *error);
/* The same credentials, towards peers that must hold another name (copied). NULL: no memory, or it is longer than 255 bytes. */
struct tls_context *tls_context_for(const struct tls_context *context, const char *peer_name);
/* Its streams are gone. NULL allowed. */
void tls_context_destroy(struct tls_context *context);

/* NULL: no memory. wall_ns: when the peer's certificate must be valid. */
struct tls_stream *tls_stream_create(struct tls_context *context, uint64_t wall_ns);
void tls_stream_destroy(struct tls_stream *stream);
/* Bytes of the peer, all taken; what comes of them is seen by the next functions. False: no memory. */
bool tls_stream_input(struct tls_stream *stream, const void *bytes, size_t length);
/* Goes on with the handshake, then reads plaintext. 0 = nothing now; -1 = failed or closed by the peer (tls_stream_why). */
int64_t tls_stream_read(struct tls_stream *stream, void *to, size_t size);
/* Plaintext to be sent, all taken; only once established. False: it has failed. */
bool tls_stream_write(struct tls_stream *stream, const void *bytes, size_t length);
/* Ciphertext to be sent. */
size_t tls_stream_output(struct tls_stream *stream, void *to, size_t size);
/* The handshake is done, and the peer is who it must be. */
bool tls_stream_established(const struct tls_stream *stream);
/* Says goodbye: output gives it. */
void tls_stream_end(struct tls_stream *stream);
/* One line. */
const char *tls_stream_why(const struct tls_stream *stream);
