#include "wire/tls/tls.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define CERTIFICATE_LIST_MAX 32768 /* bytes of a peer's chain */

struct tls_context {
    SSL_CTX *ssl;
    bool server;
    char peer_name[256];
};

struct tls_stream {
    SSL *ssl;
    BIO *in, *out; /* ssl's */
    bool established, failed;
    char why[160];
};

static const unsigned char alpn[] = {2, 'h', '2'};

static void why_of_queue(char *to, size_t size, const char *otherwise) {
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    snprintf(to, size, "%s", reason != NULL ? reason : otherwise);
    ERR_clear_error();
}

/* ---- context ---- */

static bool pem_fault(struct error *error, const char *field, const char *what) {
    char why[160];
    why_of_queue(why, sizeof(why), "not PEM");
    return error_set(error, ERROR_INVALID, "TLS: the %s (%s) is unfit: %s", what, field, why);
}

/* The CA: each certificate of the text. */
static bool use_ca(struct tls_context *context, BIO *pem, struct error *error) {
    unsigned count = 0;
    for (X509 *certificate; (certificate = PEM_read_bio_X509(pem, NULL, NULL, NULL)) != NULL; count++) {
        bool ok = X509_STORE_add_cert(SSL_CTX_get_cert_store(context->ssl), certificate) == 1 &&
                  (!context->server || SSL_CTX_add_client_CA(context->ssl, certificate) == 1);
        X509_free(certificate);
        if (!ok)
            return pem_fault(error, "ca", "CA certificate");
    }
    if (count == 0)
        return pem_fault(error, "ca", "CA certificate");
    ERR_clear_error(); /* "no start line" ends the text */
    return true;
}

/* Our own, with what lies between it and the CA. */
static bool use_certificate(struct tls_context *context, BIO *pem, struct error *error) {
    X509 *certificate = PEM_read_bio_X509(pem, NULL, NULL, NULL);
    bool ok = certificate != NULL && SSL_CTX_use_certificate(context->ssl, certificate) == 1;
    X509_free(certificate);
    while (ok && (certificate = PEM_read_bio_X509(pem, NULL, NULL, NULL)) != NULL) {
        ok = SSL_CTX_add0_chain_cert(context->ssl, certificate) == 1;
        if (!ok)
            X509_free(certificate);
    }
    if (!ok)
        return pem_fault(error, "certificate", "certificate");
    ERR_clear_error();
    return true;
}

/* Never asks a terminal. */
static int no_password(char *to, int size, int writes, void *arg) {
    (void)to, (void)size, (void)writes, (void)arg;
    return -1;
}

static bool use_key(struct tls_context *context, BIO *pem, struct error *error) {
    EVP_PKEY *key = PEM_read_bio_PrivateKey(pem, NULL, no_password, NULL);
    bool ok = key != NULL && SSL_CTX_use_PrivateKey(context->ssl, key) == 1 && SSL_CTX_check_private_key(context->ssl) == 1;
    EVP_PKEY_free(key);
    return ok || pem_fault(error, "key", "private key");
}

static bool use_text(struct tls_context *context, const char *text, struct error *error,
                     bool (*use)(struct tls_context *, BIO *, struct error *)) {
    BIO *pem = BIO_new_mem_buf(text, -1);
    if (pem == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for TLS");
    bool ok = use(context, pem, error);
    BIO_free(pem);
    return ok;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *in,
                       unsigned in_length, void *arg) {
    (void)ssl, (void)arg;
    unsigned char *selected;
    if (SSL_select_next_proto(&selected, out_length, alpn, sizeof(alpn), in, in_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = selected;
    return SSL_TLSEXT_ERR_OK;
}

static bool context_set_up(struct tls_context *context, const struct tls_options *options, struct error *error) {
    SSL_CTX *ssl = context->ssl;
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ssl,
                        SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(ssl, 0);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_max_cert_list(ssl, CERTIFICATE_LIST_MAX);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (options->server)
        SSL_CTX_set_alpn_select_cb(ssl, select_alpn, NULL);
    else if (SSL_CTX_set_alpn_protos(ssl, alpn, sizeof(alpn)) != 0)
        return error_set(error, ERROR_NO_MEMORY, "no memory for TLS");
    return use_text(context, options->ca_pem, error, use_ca) &&
           use_text(context, options->certificate_pem, error, use_certificate) &&
           use_text(context, options->key_pem, error, use_key);
}

bool tls_context_create(const struct tls_options *options, struct tls_context **ret_context, struct error *error) {
    struct tls_context *context = calloc(1, sizeof(*context));
    if (context == NULL || (context->ssl = SSL_CTX_new(options->server ? TLS_server_method() : TLS_client_method())) == NULL) {
        free(context);
        return error_set(error, ERROR_NO_MEMORY, "no memory for TLS");
    }
    context->server = options->server;
    if (options->peer_name != NULL && strlen(options->peer_name) >= sizeof(context->peer_name)) {
        tls_context_destroy(context);
        return error_invalid(error, "peer_name", options->peer_name, "a name of at most 255 bytes");
    }
    if (options->peer_name != NULL)
        memcpy(context->peer_name, options->peer_name, strlen(options->peer_name) + 1);
    if (!context_set_up(context, options, error)) {
        tls_context_destroy(context);
        return false;
    }
    *ret_context = context;
    return true;
}

struct tls_context *tls_context_for(const struct tls_context *context, const char *peer_name) {
    struct tls_context *made = strlen(peer_name) < sizeof(made->peer_name) ? calloc(1, sizeof(*made)) : NULL;
    if (made == NULL || SSL_CTX_up_ref(context->ssl) != 1) {
        free(made);
        return NULL;
    }
    made->ssl = context->ssl;
    made->server = context->server;
    memcpy(made->peer_name, peer_name, strlen(peer_name) + 1);
    return made;
}

void tls_context_destroy(struct tls_context *context) {
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

/* ---- stream ---- */

static bool stream_set_up(struct tls_stream *stream, struct tls_context *context, uint64_t wall_ns) {
    stream->ssl = SSL_new(context->ssl);
    stream->in = BIO_new(BIO_s_mem());
    stream->out = BIO_new(BIO_s_mem());
    if (stream->ssl == NULL || stream->in == NULL || stream->out == NULL) {
        BIO_free(stream->in);
        BIO_free(stream->out);
        return false;
    }
    BIO_set_mem_eof_return(stream->in, -1);
    SSL_set_bio(stream->ssl, stream->in, stream->out);
    X509_VERIFY_PARAM_set_time(SSL_get0_param(stream->ssl), (time_t)(wall_ns / NS_PER_S));
    if (context->server)
        SSL_set_accept_state(stream->ssl);
    else
        SSL_set_connect_state(stream->ssl);
    if (context->peer_name[0] == '\0')
        return true;
    SSL_set_hostflags(stream->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(stream->ssl, context->peer_name) == 1 &&
           (context->server || SSL_set_tlsext_host_name(stream->ssl, context->peer_name) == 1);
}

struct tls_stream *tls_stream_create(struct tls_context *context, uint64_t wall_ns) {
    struct tls_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL)
        return NULL;
    if (!stream_set_up(stream, context, wall_ns)) {
        tls_stream_destroy(stream);
        ERR_clear_error();
        return NULL;
    }
    return stream;
}

void tls_stream_destroy(struct tls_stream *stream) {
    SSL_free(stream->ssl);
    free(stream);
}

bool tls_stream_input(struct tls_stream *stream, const void *bytes, size_t length) {
    size_t written = 0;
    return length == 0 || (BIO_write_ex(stream->in, bytes, length, &written) == 1 && written == length);
}

static int64_t fail(struct tls_stream *stream, const char *otherwise) {
    if (!stream->failed) {
        long verified = SSL_get_verify_result(stream->ssl);
        why_of_queue(stream->why, sizeof(stream->why), otherwise);
        if (!stream->established && verified != X509_V_OK)
            snprintf(stream->why, sizeof(stream->why), "%s", X509_verify_cert_error_string(verified));
    }
    stream->failed = true;
    return -1;
}

/* True: done. *ret_failed: it never will be. */
static bool handshake(struct tls_stream *stream, bool *ret_failed) {
    ERR_clear_error();
    int status = SSL_do_handshake(stream->ssl);
    if (status != 1) {
        *ret_failed = SSL_get_error(stream->ssl, status) != SSL_ERROR_WANT_READ;
        return false;
    }
    const unsigned char *protocol;
    unsigned length;
    SSL_get0_alpn_selected(stream->ssl, &protocol, &length);
    *ret_failed = length != 2 || memcmp(protocol, "h2", 2) != 0;
    return !*ret_failed;
}

int64_t tls_stream_read(struct tls_stream *stream, void *to, size_t size) {
    if (stream->failed)
        return -1;
    if (!stream->established) {
        bool failed = false;
        stream->established = handshake(stream, &failed);
        if (failed)
            return fail(stream, "no common application protocol");
        if (!stream->established)
            return 0;
    }
    size_t length = 0;
    ERR_clear_error();
    if (SSL_read_ex(stream->ssl, to, size, &length) == 1)
        return (int64_t)length;
    int error = SSL_get_error(stream->ssl, 0);
    return error == SSL_ERROR_WANT_READ ? 0 : fail(stream, error == SSL_ERROR_ZERO_RETURN ? "closed by the peer" : "broken TLS");
}

bool tls_stream_write(struct tls_stream *stream, const void *bytes, size_t length) {
    size_t written = 0;
    assert(stream->established);
    ERR_clear_error();
    if (!stream->failed && SSL_write_ex(stream->ssl, bytes, length, &written) == 1 && written == length)
        return true;
    (void)fail(stream, "no memory");
    return false;
}

size_t tls_stream_output(struct tls_stream *stream, void *to, size_t size) {
    size_t length = 0;
    return BIO_read_ex(stream->out, to, size, &length) == 1 ? length : 0;
}

bool tls_stream_established(const struct tls_stream *stream) { return stream->established && !stream->failed; }

void tls_stream_end(struct tls_stream *stream) {
    if (tls_stream_established(stream))
        (void)SSL_shutdown(stream->ssl);
    ERR_clear_error();
}

const char *tls_stream_why(const struct tls_stream *stream) { return stream->why; }
