/* nvme-tcp://ADDRESS:PORT/NQN?…: a namespace of another node's subsystem. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "programs/penstock-bench/target.h"

struct nvme_target_attach {
    struct target *target;
    struct nvme_initiator_attach attach;
    char subnqn[NVME_INITIATOR_NQN_MAX + 1], hostnqn[NVME_INITIATOR_NQN_MAX + 1];
    uint64_t nsid; /* 0 = the first */
};

/* Copies [from, end) as a text of at most size - 1 bytes. */
static bool copy_part(char *to, size_t size, const char *from, const char *end) {
    if ((size_t)(end - from) >= size || end == from)
        return false;
    memcpy(to, from, (size_t)(end - from));
    to[end - from] = '\0';
    return true;
}

static bool parse_option(struct nvme_target_attach *nvme, const char *option, const char *end) {
    char text[NVME_INITIATOR_NQN_MAX + 16];
    if (!copy_part(text, sizeof(text), option, end))
        return false;
    if (strcmp(text, "hdgst") == 0)
        return nvme->attach.header_digest = true;
    if (strcmp(text, "ddgst") == 0)
        return nvme->attach.data_digest = true;
    if (strncmp(text, "nsid=", 5) == 0)
        return text_parse_u64(text + 5, UINT32_MAX, &nvme->nsid);
    if (strncmp(text, "hostnqn=", 8) == 0) {
        nvme->attach.hostnqn = nvme->hostnqn;
        return copy_part(nvme->hostnqn, sizeof(nvme->hostnqn), text + 8, text + strlen(text));
    }
    return false;
}

/* "127.0.0.1:4420/nqn.x?hdgst" or "[::1]:4420/nqn.x". */
static bool parse(struct nvme_target_attach *nvme, const char *address, struct error *error) {
    struct nvme_initiator_attach *attach = &nvme->attach;
    const char *slash = strchr(address, '/'), *question = slash != NULL ? strchr(slash, '?') : NULL;
    bool v6 = address[0] == '[';
    const char *end = v6 ? strchr(address, ']') : slash != NULL ? memchr(address, ':', (size_t)(slash - address)) : NULL;
    const char *colon = end != NULL && v6 ? end + 1 : end;
    char port[8];
    uint64_t number = 0;
    bool ok = slash != NULL && end != NULL && end < slash && *colon == ':' &&
              copy_part(attach->address.text, sizeof(attach->address.text), address + v6, end) &&
              copy_part(port, sizeof(port), colon + 1, slash) && text_parse_u64(port, UINT16_MAX, &number) &&
              copy_part(nvme->subnqn, sizeof(nvme->subnqn), slash + 1, question != NULL ? question : slash + strlen(slash));
    while (ok && question != NULL) {
        const char *next = strchr(question + 1, ',');
        ok = parse_option(nvme, question + 1, next != NULL ? next : question + strlen(question));
        question = next;
    }
    attach->address.family = v6 ? HOST_IPV6 : HOST_IPV4;
    attach->address.port = (uint16_t)number;
    attach->subnqn = nvme->subnqn;
    return ok || error_invalid(error, "DEVICE", address, "nvme-tcp://ADDRESS:PORT/NQN[?nsid=N,hdgst,ddgst,hostnqn=NQN]");
}

static void attached(struct nvme_initiator_attach *attach) {
    struct nvme_target_attach *nvme = container_of(attach, struct nvme_target_attach, attach);
    struct target *target = nvme->target;
    struct error error = attach->error;
    bool ok = attach->ok;
    for (struct block_device *device = NULL; ok && (device = nvme_initiator_device_next(attach->controller, device)) != NULL;)
        if (target->device == NULL && (nvme->nsid == 0 || nvme->nsid == nvme_initiator_device_nsid(device)))
            target->device = device;
    if (ok && target->device == NULL)
        ok = error_set(&error, ERROR_NO_DEVICE, "%s has no %s namespace", nvme->subnqn, nvme->nsid == 0 ? "" : "such");
    free(nvme);
    target->done(target, ok, &error);
}

void target_open_nvme(struct target *target, const char *address) {
    struct nvme_target_attach *nvme = calloc(1, sizeof(*nvme));
    struct error error = {0};
    struct nvme_initiator_options options;
    nvme_initiator_options_default(&options);
    options.retry_count = -1; /* a killed target comes back: requests wait for it */
    if (nvme == NULL)
        error_set(&error, ERROR_NO_MEMORY, "no memory to connect");
    else if (parse(nvme, address, &error) && nvme_initiator_create(target->graph, target->control, &target->initiator, &error) &&
             nvme_initiator_set_options(target->initiator, &options, &error)) {
        nvme->target = target;
        nvme->attach.name = "bench";
        nvme->attach.loss_set = true;
        nvme->attach.loss = (struct nvme_initiator_loss){.ctrlr_loss_timeout_ms = -1, .reconnect_delay_ms = 20};
        nvme->attach.done = attached;
        nvme_initiator_attach(target->initiator, &nvme->attach);
        return;
    }
    free(nvme);
    target->done(target, false, &error);
}

static void detached(void *arg) {
    struct target *target = arg;
    nvme_initiator_destroy(target->initiator);
    target->initiator = NULL;
    target->device = NULL;
    target_close_rest(target);
}

void target_close_nvme(struct target *target) {
    struct error error;
    if (!nvme_initiator_detach(target->initiator, "bench", NULL, detached, target, &error))
        detached(target); /* there never was a connection */
}
