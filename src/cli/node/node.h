/* What the verbs of the control daemon share. Must not know: what stands behind the daemon. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "cli/cli.h"

extern const struct cli_extension cli_node_extension;

/* ---- daemons ---- */

/* How many were named. False: cli->error says which address is none. */
bool cli_node_count(struct cli *cli, unsigned *ret_count);
/* As the user wrote it. */
const char *cli_node_address(const struct cli *cli, unsigned at);
/* Its numeric address; NULL: it was named by a socket's path. */
const char *cli_node_ip(const struct cli *cli, unsigned at);
/* Calls a method of the only daemon. The request, an object of the message's fields (NULL = none), is taken; the answer is the
 * caller's. False: cli->error is set, with what to do next. */
bool cli_node_call(struct cli *cli, const char *method, json_t *take_request, json_t **ret_answer);
/* The same of one of several. */
bool cli_node_call_at(struct cli *cli, unsigned at, const char *method, json_t *take_request, json_t **ret_answer);
/* The same of the daemon at another address, which was not named; once a command line. */
bool cli_node_call_beside(struct cli *cli, const char *ip, const char *method, json_t *take_request, json_t **ret_answer);
/* The same where nobody wants to see the answer (with -o json or yaml it is printed). */
bool cli_node_do(struct cli *cli, const char *method, json_t *take_request);

/* A stream of the only daemon. It stays where it is until it is closed. */
struct cli_node_watch;
bool cli_node_watch_open(struct cli *cli, const char *method, struct cli_node_watch **ret_watch);
/* The same of one of several, with a request (taken; NULL = none). */
bool cli_node_watch_open_at(struct cli *cli, unsigned at, const char *method, json_t *take_request,
                            struct cli_node_watch **ret_watch);
/* Waits for its next message: at the latest for so long, 0 = for ever. False: it has ended, cli->error says why. *ret_message is
 * NULL when time passed, else the caller's. */
bool cli_node_watch_next(struct cli_node_watch *watch, uint64_t timeout_ms, json_t **ret_message);
void cli_node_watch_close(struct cli_node_watch *take_watch);
void cli_node_fini(struct cli *cli);

/* The methods of all services: their names, the services' where a text is wanted. */
const ProtobufCMethodDescriptor *cli_node_method(const char *name, const ProtobufCServiceDescriptor **ret_service);
/* It answers with a stream. The descriptors do not tell; all watches do. */
bool cli_node_is_stream(const char *method);
/* The i-th service, NULL behind the last. */
const ProtobufCServiceDescriptor *cli_node_service(unsigned i);

/* ---- messages as JSON, by their descriptors: names as in the .proto file, all fields; 64-bit numbers beyond JSON's are texts
 * ---- */

json_t *cli_message_to_json(const ProtobufCMessage *message);
/* Memory of messages that are being made; {0} to begin with. */
struct cli_message_memory {
    void **blocks;
    size_t count, capacity;
};
void cli_message_free(struct cli_message_memory *memory);
/* False: error names the field. The message lives until the memory is freed; texts are the object's. */
bool cli_message_from_json(const ProtobufCMessageDescriptor *descriptor, const json_t *object, struct cli_message_memory *memory,
                           ProtobufCMessage **ret_message, struct error *error);

/* ---- lists ---- */

/* A text member, "-" for none and for an empty one. */
const char *cli_shown(const json_t *object, const char *key);
/* The members' values as a list, the caller's. */
json_t *cli_values(const json_t *object);
/* All of one kind on all nodes, as a list whose items say which node they are of. `list` makes a node's of the answer of
 * `method`.
 */
bool cli_node_gather(struct cli *cli, const char *method, json_t *(*list)(const json_t *answer), json_t **ret_all);
/* A table of `narrow` columns (`wide` if that is asked for), or the list for programs. */
bool cli_node_print_list(struct cli *cli, json_t *take_list, const char *const *titles, unsigned narrow, unsigned wide,
                         unsigned right, void (*row)(struct cli_table *table, const json_t *item));
/* The members of an object, a line each; what is inside of them is left to programs. */
bool cli_node_print_object(struct cli *cli, json_t *take_object);
/* Says what changes in a listing (`member` of the answer of `list`) whenever `stream` tells that something did. */
bool cli_node_watch_list(struct cli *cli, const char *stream, const char *list, const char *member);

/* ---- verbs ---- */

bool cli_node_status(struct cli *cli);
bool cli_node_grpc(struct cli *cli);
bool cli_node_list(struct cli *cli);
bool cli_node_show(struct cli *cli);
bool cli_node_disk_list(struct cli *cli);
bool cli_node_disk_show(struct cli *cli);
bool cli_node_disk_create(struct cli *cli);
bool cli_node_disk_delete(struct cli *cli);
bool cli_node_replica_list(struct cli *cli);
bool cli_node_replica_show(struct cli *cli);
bool cli_node_replica_create(struct cli *cli);
bool cli_node_replica_stop(struct cli *cli);
bool cli_node_replica_delete(struct cli *cli);
bool cli_node_replica_expand(struct cli *cli);
bool cli_node_replica_watch(struct cli *cli);
bool cli_node_snapshot_list(struct cli *cli);
bool cli_node_snapshot_create(struct cli *cli);
bool cli_node_snapshot_delete(struct cli *cli);
bool cli_node_snapshot_revert(struct cli *cli);
bool cli_node_snapshot_purge(struct cli *cli);
bool cli_node_support_bundle(struct cli *cli);
bool cli_node_volume_list(struct cli *cli);
bool cli_node_volume_show(struct cli *cli);
bool cli_node_volume_create(struct cli *cli);
bool cli_node_volume_expand(struct cli *cli);
bool cli_node_volume_delete(struct cli *cli);
bool cli_node_volume_revert(struct cli *cli);
bool cli_node_volume_clone(struct cli *cli);
bool cli_node_volume_add(struct cli *cli);
bool cli_node_volume_remove(struct cli *cli);
bool cli_node_volume_set(struct cli *cli);
bool cli_node_volume_watch(struct cli *cli);
bool cli_node_volume_leftovers(struct cli *cli);
bool cli_node_volume_snapshot_list(struct cli *cli);
bool cli_node_volume_snapshot_create(struct cli *cli);
bool cli_node_volume_snapshot_delete(struct cli *cli);
bool cli_node_engine_list(struct cli *cli);
bool cli_node_engine_show(struct cli *cli);
bool cli_node_engine_create(struct cli *cli);
bool cli_node_engine_delete(struct cli *cli);
bool cli_node_engine_expand(struct cli *cli);
bool cli_node_engine_add(struct cli *cli);
bool cli_node_engine_remove(struct cli *cli);
bool cli_node_engine_watch(struct cli *cli);
bool cli_node_frontend_list(struct cli *cli);
bool cli_node_frontend_show(struct cli *cli);
bool cli_node_frontend_create(struct cli *cli);
bool cli_node_frontend_delete(struct cli *cli);
bool cli_node_frontend_suspend(struct cli *cli);
bool cli_node_frontend_switch_over(struct cli *cli);
bool cli_node_frontend_resume(struct cli *cli);
bool cli_node_frontend_expand(struct cli *cli);
bool cli_node_frontend_watch(struct cli *cli);
