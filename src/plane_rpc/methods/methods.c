#include "plane_rpc/methods/methods.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "plane_rpc/examine.h"
#include "plane_rpc/stores.h"

const struct methods_area methods_areas[] = {
    {"bdev", methods_put_bdev_config},
    {"nvmf", methods_put_nvmf_config},
    {NULL, NULL},
};

void methods_config_begin(struct json_writer *writer, const char *method) {
    json_begin_object(writer, NULL);
    json_put_string(writer, "method", method);
    json_begin_object(writer, "params");
}

void methods_config_end(struct json_writer *writer) {
    json_end(writer);
    json_end(writer);
}

static void waiter_cancel(struct plane_waiter *waiter) {
    struct rpc_call *call = waiter->call;
    struct error error;
    list_remove(&waiter->node);
    free(waiter);
    error_set(&error, ERROR_CANCELLED, "the program ends");
    rpc_call_fail(call, &error);
}

struct plane_waiter *methods_wait(struct rpc_call *call, struct list *list, void (*run)(struct plane_waiter *waiter)) {
    struct plane_waiter *waiter = calloc(1, sizeof(*waiter));
    if (waiter == NULL) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory to wait");
        rpc_call_fail(call, &error);
        return NULL;
    }
    *waiter = (struct plane_waiter){.call = call, .run = run, .cancel = waiter_cancel};
    list_push_back(list, &waiter->node);
    return waiter;
}

/* Each look that ends wakes it; another device's is no reason to wait on, and the handler asks anew. */
static void look_ended(struct plane_waiter *waiter) {
    struct rpc_call *call = waiter->call;
    list_remove(&waiter->node);
    free(waiter);
    rpc_call_again(call);
}

bool methods_wait_for_look(struct rpc_call *call, const char *device) {
    struct plane *plane = plane_of(call);
    return plane_examines(plane, device) && (methods_wait(call, &plane->waiters, look_ended), true);
}

struct block_device *methods_device(struct rpc_call *call, const char *name) {
    struct error error;
    struct block_device *device = plane_find_device(plane_of(call), name, &error);
    if (device == NULL)
        rpc_call_fail(call, &error);
    return device;
}

struct block_device *methods_device_of(struct rpc_call *call, const char *name, bool (*is)(const struct block_device *device),
                                       const char *what) {
    struct block_device *device = methods_device(call, name);
    if (device == NULL || is(device))
        return device;
    struct error error;
    error_invalid(&error, "name", name, "%s", what);
    error.code = ERROR_NO_DEVICE; /* the dialect: no such device of this kind */
    rpc_call_fail(call, &error);
    return NULL;
}

static void removed(struct block_device *device, void *arg) {
    (void)device;
    rpc_call_result_true(arg);
}

/* A device with a store on it: the store is closed first. */
struct store_removal {
    struct rpc_call *call;
    char device[BLOCK_NAME_SIZE];
};

static void store_closed(void *arg, bool ok, const struct error *error) {
    struct store_removal *removal = arg;
    struct error own;
    struct block_device *device = plane_find_device(plane_of(removal->call), removal->device, &own);
    (void)ok, (void)error; /* logged; the next opening recovers */
    if (device == NULL || !block_device_remove(device, removed, removal->call, &own))
        rpc_call_fail(removal->call, &own);
    free(removal);
}

void methods_remove_device(struct rpc_call *call, struct block_device *device,
                           bool (*remove)(struct block_device *device, void (*removed)(struct block_device *, void *), void *arg,
                                          struct error *error)) {
    struct error error;
    struct plane_store *store = plane_store_on(plane_of(call), device);
    if (store != NULL) {
        struct store_removal *removal = calloc(1, sizeof(*removal));
        bool ok = removal != NULL || error_set(&error, ERROR_NO_MEMORY, "no memory");
        if (ok) {
            removal->call = call;
            memcpy(removal->device, device->name, sizeof(removal->device));
            ok = plane_store_close(store, store_closed, removal, &error);
        }
        if (!ok) {
            free(removal);
            rpc_call_fail(call, &error);
        }
        return;
    }
    if (!(remove != NULL ? remove : block_device_remove)(device, removed, call, &error))
        rpc_call_fail(call, &error);
}

void methods_put_address(struct json_writer *writer, bool ipv6, const char *address, uint16_t port) {
    json_put_string(writer, "trtype", "TCP");
    json_put_string(writer, "adrfam", ipv6 ? "IPv6" : "IPv4");
    json_put_string(writer, "traddr", address);
    json_putf(writer, "trsvcid", "%u", port);
}

const char *methods_number(uint64_t number, char to[24]) {
    snprintf(to, 24, "%" PRIu64, number);
    return to;
}
