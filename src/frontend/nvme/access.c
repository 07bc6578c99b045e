/* Who may come to a subsystem, and where: its hosts and listeners. Control reactor. */
#include <stdio.h>
#include <stdlib.h>

#include "frontend/nvme/internal.h"

static bool address_equal(const struct nvme_listen_address *a, const struct nvme_listen_address *b) {
    return a->transport == b->transport && a->family == b->family && a->port == b->port && strcmp(a->address, b->address) == 0;
}

/* ---- hosts ---- */

static struct nvme_host *host_find(const struct nvme_subsystem *subsystem, const char *nqn) {
    list_for_each (&subsystem->hosts, struct nvme_host, host, node)
        if (strcmp(host->nqn, nqn) == 0)
            return host;
    return NULL;
}

bool nvme_host_allowed(const struct nvme_subsystem *subsystem, const char *hostnqn) {
    return subsystem->allow_any_host || host_find(subsystem, hostnqn) != NULL;
}

bool nvme_subsystem_add_host(struct nvme_subsystem *subsystem, const char *nqn, struct error *error) {
    if (!nvme_nqn_check(nqn))
        return error_invalid(error, "host", nqn, "the NQN of a host");
    if (host_find(subsystem, nqn) != NULL)
        return error_set(error, ERROR_EXISTS, "host %s is on the list of %s", nqn, subsystem->nqn);
    if (subsystem->host_count >= NVME_LIMIT_HOSTS)
        return error_set(error, ERROR_NO_MEMORY, "the limit of %u hosts is reached", NVME_LIMIT_HOSTS);
    struct nvme_host *host = calloc(1, sizeof(*host));
    if (host == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for host %s", nqn);
    memcpy(host->nqn, nqn, strlen(nqn) + 1);
    list_push_back(&subsystem->hosts, &host->node);
    subsystem->host_count++;
    nvme_discovery_changed(subsystem->target);
    return true;
}

/* "Drop the controllers of ...", carried to the home. */
struct drop {
    struct reactor_message message;
    struct nvme_subsystem *subsystem;
    char hostnqn[NVME_NQN_LENGTH_MAX + 1]; /* "" = by cntlid */
    uint16_t count, cntlids[];
};

static void on_dropped(struct reactor_message *message) { free(container_of(message, struct drop, message)); }

static void on_drop(struct reactor_message *message) {
    struct drop *drop = container_of(message, struct drop, message);
    list_for_each_safe (&drop->subsystem->live, struct nvme_controller, controller, live_node) {
        bool meant = strcmp(controller->hostnqn, drop->hostnqn) == 0;
        for (uint16_t i = 0; i < drop->count; i++)
            meant |= drop->cntlids[i] == controller->cntlid;
        if (meant)
            nvme_controller_lose(controller);
    }
    drop->message.run = on_dropped;
    reactor_post(drop->subsystem->target->control, &drop->message);
}

static struct drop *drop_create(struct nvme_subsystem *subsystem, unsigned cntlids) {
    struct drop *drop = calloc(1, sizeof(*drop) + cntlids * sizeof(uint16_t));
    if (drop != NULL)
        drop->subsystem = subsystem;
    return drop;
}

static void drop_post(struct drop *drop) {
    drop->message.run = on_drop;
    if (drop->subsystem->home != NULL)
        reactor_post(drop->subsystem->home, &drop->message);
    else
        free(drop); /* nobody was ever connected */
}

bool nvme_subsystem_remove_host(struct nvme_subsystem *subsystem, const char *nqn, struct error *error) {
    struct nvme_host *host = host_find(subsystem, nqn);
    if (host == NULL)
        return error_set(error, ERROR_NOT_FOUND, "host %s is not on the list of %s", nqn, subsystem->nqn);
    struct drop *drop = drop_create(subsystem, 0);
    if (drop == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory to drop host %s", nqn);
    memcpy(drop->hostnqn, nqn, strlen(nqn) + 1);
    list_remove(&host->node);
    subsystem->host_count--;
    free(host);
    if (subsystem->allow_any_host)
        free(drop);
    else
        drop_post(drop);
    nvme_discovery_changed(subsystem->target);
    return true;
}

void nvme_subsystem_allow_any_host(struct nvme_subsystem *subsystem, bool allow) {
    if (subsystem->allow_any_host == allow)
        return;
    subsystem->allow_any_host = allow;
    nvme_discovery_changed(subsystem->target);
}

/* ---- listeners ---- */

static struct nvme_listener *listener_find(struct nvme_subsystem *subsystem, const struct nvme_listen_address *address) {
    list_for_each (&subsystem->listeners, struct nvme_listener, listener, node)
        if (address_equal(&listener->address, address))
            return listener;
    return NULL;
}

static uint64_t address_hash(const struct nvme_listen_address *address) {
    return hash_bytes(address->address, strlen(address->address), hash_u64(address->port));
}

static struct nvme_socket *socket_open(struct nvme_target *target, struct nvme_listen_address *address, struct error *error) {
    struct nvme_transport *transport = nvme_target_find_transport(target, address->transport);
    if (transport == NULL) {
        error_set(error, ERROR_NOT_FOUND, "there is no transport of this type; create it first");
        return NULL;
    }
    for (struct hash_node *n = hash_map_first(&target->sockets, address_hash(address)); n != NULL; n = hash_map_next(n)) {
        struct nvme_socket *socket = container_of(n, struct nvme_socket, node);
        if (address_equal(&socket->address, address)) {
            socket->refs++;
            return socket;
        }
    }
    struct nvme_socket *socket = calloc(1, sizeof(*socket));
    if (socket == NULL) {
        error_set(error, ERROR_NO_MEMORY, "no memory for a listener");
        return NULL;
    }
    socket->transport = transport;
    socket->address = *address;
    socket->refs = 1;
    if (!transport->ops->listen(transport, address, &socket->socket, &socket->address.port, error)) {
        free(socket);
        return NULL;
    }
    address->port = socket->address.port;
    if (!hash_map_insert(&target->sockets, &socket->node, address_hash(&socket->address))) {
        error_set(error, ERROR_NO_MEMORY, "no memory for a listener");
        transport->ops->unlisten(transport, socket->socket);
        free(socket);
        return NULL;
    }
    return socket;
}

static void socket_close(struct nvme_socket *socket) {
    if (--socket->refs > 0)
        return;
    hash_map_remove(&socket->transport->target->sockets, &socket->node);
    socket->transport->ops->unlisten(socket->transport, socket->socket);
    free(socket);
}

void nvme_listener_drop(struct nvme_listener *listener) {
    list_remove(&listener->node);
    socket_close(listener->socket);
    nvme_path_unref(listener->path);
    free(listener);
}

static bool ana_check(const struct nvme_subsystem *subsystem, enum nvme_ana_state state, struct error *error) {
    return subsystem->ana || state == NVME_ANA_OPTIMIZED ||
           error_set(error, ERROR_UNSUPPORTED, "%s does not report asymmetric namespace access: create it with ana_reporting",
                     subsystem->nqn);
}

bool nvme_subsystem_add_listener(struct nvme_subsystem *subsystem, struct nvme_listen_address *address, enum nvme_ana_state state,
                                 struct error *error) {
    if (!ana_check(subsystem, state, error))
        return false;
    if (address->port != 0 && listener_find(subsystem, address) != NULL)
        return error_set(error, ERROR_EXISTS, "%s listens on %s port %u", subsystem->nqn, address->address, address->port);
    if (subsystem->listener_count >= NVME_LIMIT_LISTENERS)
        return error_set(error, ERROR_NO_MEMORY, "the limit of %u listeners is reached", NVME_LIMIT_LISTENERS);
    struct nvme_listener *listener = calloc(1, sizeof(*listener));
    if (listener != NULL && subsystem->ana && (listener->path = nvme_path_create(subsystem, state)) == NULL) {
        free(listener);
        listener = NULL;
    }
    if (listener == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a listener");
    listener->socket = socket_open(subsystem->target, address, error);
    if (listener->socket == NULL) {
        nvme_path_unref(listener->path);
        free(listener);
        return false;
    }
    listener->address = *address;
    list_push_back(&subsystem->listeners, &listener->node);
    subsystem->listener_count++;
    nvme_discovery_changed(subsystem->target);
    return true;
}

bool nvme_subsystem_remove_listener(struct nvme_subsystem *subsystem, const struct nvme_listen_address *address,
                                    struct error *error) {
    struct nvme_listener *listener = listener_find(subsystem, address);
    if (listener == NULL)
        return error_set(error, ERROR_NOT_FOUND, "%s does not listen on %s port %u", subsystem->nqn, address->address,
                         address->port);
    struct drop *drop = drop_create(subsystem, subsystem->controller_count);
    if (drop == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory to drop the listener's connections");
    drop->hostnqn[0] = '\0';
    list_for_each (&subsystem->queues, struct nvme_queue, queue, node)
        if (queue->qid == 0 && queue->listener == listener->socket->socket && drop->count < subsystem->controller_count)
            drop->cntlids[drop->count++] = queue->cntlid;
    drop_post(drop);
    subsystem->listener_count--;
    nvme_listener_drop(listener);
    nvme_discovery_changed(subsystem->target);
    return true;
}

bool nvme_listener_set_ana_state(struct nvme_subsystem *subsystem, const struct nvme_listen_address *address, uint32_t group,
                                 enum nvme_ana_state state, nvme_ana_done done, void *arg, struct error *error) {
    struct nvme_listener *listener = listener_find(subsystem, address);
    char number[16];
    assert(state >= NVME_ANA_OPTIMIZED && state <= NVME_ANA_INACCESSIBLE_STATE);
    if (listener == NULL)
        return error_set(error, ERROR_NOT_FOUND, "%s does not listen on %s port %u", subsystem->nqn, address->address,
                         address->port);
    if (!ana_check(subsystem, state, error))
        return false;
    if (group > subsystem->max_namespaces) {
        snprintf(number, sizeof(number), "%u", group);
        return error_invalid(error, "anagrpid", number, "1 to %u, or 0 for all", subsystem->max_namespaces);
    }
    if (listener->path == NULL) { /* it is so */
        done(arg, NULL);
        return true;
    }
    if (listener->path->busy)
        return error_set(error, ERROR_BUSY, "another change of this listener is under way");
    nvme_path_change(listener->path, group, state, done, arg);
    return true;
}

enum nvme_ana_state nvme_listener_ana_state(const struct nvme_listener *listener, uint32_t group) {
    return listener->path == NULL ? NVME_ANA_OPTIMIZED : (enum nvme_ana_state)listener->path->groups[group].configured;
}
