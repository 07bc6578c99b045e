#include "certificates.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

static char *text_of(BIO *bio) {
    char *bytes;
    long length = BIO_get_mem_data(bio, &bytes);
    char *text = malloc((size_t)length + 1);
    assert(text != NULL);
    memcpy(text, bytes, (size_t)length);
    text[length] = '\0';
    BIO_free(bio);
    return text;
}

static void extend(X509 *x509, X509 *issuer, int id, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, id, value);
    assert(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

void certificate_make(struct certificate *certificate, const char *name, const struct certificate *issuer, int64_t begin_s,
                      int64_t end_s) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    X509 *signer = issuer != NULL ? issuer->x509 : x509;
    char text[128];
    assert(key != NULL && x509 != NULL);
    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), issuer != NULL ? 2 : 1);
    ASN1_TIME_set(X509_getm_notBefore(x509), (time_t)begin_s);
    ASN1_TIME_set(X509_getm_notAfter(x509), (time_t)end_s);
    X509_set_pubkey(x509, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(signer));
    extend(x509, signer, NID_basic_constraints, issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    snprintf(text, sizeof(text), "DNS:%s", name);
    if (issuer != NULL)
        extend(x509, signer, NID_subject_alt_name, text);
    int size = X509_sign(x509, issuer != NULL ? issuer->key : key, EVP_sha256());
    assert(size > 0);
    (void)size;
    *certificate = (struct certificate){.x509 = x509, .key = key};
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x509);
    certificate->certificate_pem = text_of(bio);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    certificate->key_pem = text_of(bio);
}

void certificate_free(struct certificate *certificate) {
    X509_free(certificate->x509);
    EVP_PKEY_free(certificate->key);
    free(certificate->certificate_pem);
    free(certificate->key_pem);
}
