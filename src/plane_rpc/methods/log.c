/* Log methods: levels and flags of the plane's log. */
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

static void set_flag(struct rpc_call *call, const char *flag, bool on) {
    struct error error;
    if (log_set_flag(&plane_of(call)->log, flag, on)) {
        rpc_call_result_true(call);
        return;
    }
    error_invalid(&error, "flag", flag, "a name of log_get_flags, or all");
    rpc_call_error(call, JSONRPC_INVALID_PARAMS, "invalid log flag", &error);
}

void method_log_set_flag(struct rpc_call *call, const struct params_log_set_flag *params) { set_flag(call, params->flag, true); }
void method_log_clear_flag(struct rpc_call *call, const struct params_log_clear_flag *params) {
    set_flag(call, params->flag, false);
}

void method_log_get_flags(struct rpc_call *call) {
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    for (unsigned area = 0; area < LOG_AREA_COUNT; area++)
        json_put_bool(writer, log_area_name(area), log_flag_is_set(&plane_of(call)->log, area));
    json_end(writer);
    rpc_call_end(call);
}

static_assert((int)RPC_LOG_LEVEL_ERROR == LOG_LEVEL_ERROR && (int)RPC_LOG_LEVEL_DEBUG == LOG_LEVEL_DEBUG, "one order");

void method_log_set_level(struct rpc_call *call, const struct params_log_set_level *params) {
    atomic_store(&plane_of(call)->log.level, params->level);
    rpc_call_result_true(call);
}
void method_log_get_level(struct rpc_call *call) {
    rpc_call_result_string(call, log_level_name(atomic_load(&plane_of(call)->log.level)));
}
void method_log_set_print_level(struct rpc_call *call, const struct params_log_set_print_level *params) {
    atomic_store(&plane_of(call)->log.print_level, params->level);
    rpc_call_result_true(call);
}
void method_log_get_print_level(struct rpc_call *call) {
    rpc_call_result_string(call, log_level_name(atomic_load(&plane_of(call)->log.print_level)));
}
void method_log_enable_timestamps(struct rpc_call *call, const struct params_log_enable_timestamps *params) {
    atomic_store(&plane_of(call)->log.timestamps, params->enabled);
    rpc_call_result_true(call);
}
