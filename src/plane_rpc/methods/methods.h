/* What the handlers of several areas share. Control reactor. */
#pragma once

#include "plane_rpc/plane.h"

/* The areas of framework_get_subsystems, in the order in which their configuration is to be run; ends with name NULL. */
struct methods_area {
    const char *name;
    /* Writes {method, params} objects into an open array. */
    void (*put_config)(struct plane *plane, struct json_writer *writer);
};
extern const struct methods_area methods_areas[];

/* One {method, params} object: begin, write the parameters, end. */
void methods_config_begin(struct json_writer *writer, const char *method);
void methods_config_end(struct json_writer *writer);

/* Lets a call wait in a list of the plane's: `run` looks again, when the list is run. When the plane stops, the call is answered
 * ERROR_CANCELLED. NULL (and the call answered) if there is no memory. */
struct plane_waiter *methods_wait(struct rpc_call *call, struct list *list, void (*run)(struct plane_waiter *waiter));
/* True while the device of that name is looked at for a store: the call is then run once more when that has ended, or answered.
 */
bool methods_wait_for_look(struct rpc_call *call, const char *device);

/* A device by name, or the call is answered -19 and NULL returned. */
struct block_device *methods_device(struct rpc_call *call, const char *name);
/* The same for a device of one kind. */
struct block_device *methods_device_of(struct rpc_call *call, const char *name, bool (*is)(const struct block_device *device),
                                       const char *what);
/* Removes a device, by `remove` or block_device_remove() if that is NULL, and answers true when it is gone. */
void methods_remove_device(struct rpc_call *call, struct block_device *device,
                           bool (*remove)(struct block_device *device, void (*removed)(struct block_device *, void *), void *arg,
                                          struct error *error));
/* Where something listens or is reached: trtype, adrfam, traddr, trsvcid, into an open object. */
void methods_put_address(struct json_writer *writer, bool ipv6, const char *address, uint16_t port);
/* A uint32_t or uint64_t as text, for errors. */
const char *methods_number(uint64_t number, char to[24]);

void methods_put_bdev_config(struct plane *plane, struct json_writer *writer);
void methods_put_nvmf_config(struct plane *plane, struct json_writer *writer);
void methods_put_nvme_config(struct plane *plane, struct json_writer *writer); /* controllers, as part of bdev */
