#include "programs/penstockd/plane_program.h"

#include "host/linux/linux.h"

static int start(void *arg, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    struct plane_program *program = arg;
    struct host_linux_process_options options = {.arguments = program->command, .log_path = program->log_path};
    struct host_linux_process *process;
    int result = host_linux_process_start(program->reactor->loop, &options, ended, ended_arg, &process);
    if (result == 0) {
        log_notice(program->log, LOG_AREA_APP, "%s: started %s as process %llu", program->name, program->command[0],
                   (unsigned long long)host_linux_process_number(process));
        *ret_process = process;
    }
    return result;
}

static int adopt(void *arg, uint64_t number, void (*ended)(void *ended_arg, int status), void *ended_arg, void **ret_process) {
    struct plane_program *program = arg;
    struct host_linux_process *process;
    int result = host_linux_process_adopt(program->reactor->loop, number, ended, ended_arg, &process);
    if (result == 0) {
        log_notice(program->log, LOG_AREA_APP, "%s: found as process %llu", program->name, (unsigned long long)number);
        *ret_process = process;
    }
    return result;
}

static void let_go(void *arg, void *process) {
    (void)arg;
    host_linux_process_release(process);
}

void plane_program_end(void *arg, void *process, bool kill) {
    (void)arg;
    host_linux_process_end(process, kill);
}

void plane_program_init(struct plane_program *program, const char *name, const char *path, const char *socket_path,
                        const char *log_path, const struct daemon_list *arguments) {
    unsigned count = 0;
    program->name = name;
    program->log_path = log_path;
    program->command[count++] = path;
    program->command[count++] = "-r";
    program->command[count++] = socket_path;
    for (unsigned i = 0; i < arguments->count; i++)
        program->command[count++] = arguments->items[i];
    program->command[count] = NULL;
    program->count = count;
}

void plane_program_add(struct plane_program *program, const char *option, const char *value) {
    assert(program->count + 2 < array_count(program->command));
    program->command[program->count++] = option;
    if (value != NULL)
        program->command[program->count++] = value;
    program->command[program->count] = NULL;
}

struct control_processes plane_program_processes(struct plane_program *program) {
    return (struct control_processes){.start = start, .adopt = adopt, .release = let_go, .arg = program};
}
