/* penstock-blockdev: what blocks, apart from penstockd: the block device of one volume. It answers JSON-RPC on a socket, one
 * request after the other and one client at a time, and is the guard of a suspended device: that goes on when the lease is over,
 * or when the client that suspended it is gone. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>
#include <libdevmapper.h>

#include "programs/penstock-blockdev/device.h"

enum { REQUEST_MAX = 65536, LONELY_MS = 60000, PORT_TEXT = 8 };

struct helper {
    struct device device;
    char volume[DEVICE_NAME_MAX + 1]; /* that is suspended, or was last spoken of */
    int listener, client;
    char in[REQUEST_MAX + 1]; /* ends with a zero */
    size_t length;
};

/* ---- requests ---- */

static const char *text_of(const json_t *params, const char *key) {
    const char *text = json_string_value(json_object_get(params, key));
    return text == NULL ? "" : text;
}

static uint64_t number_of(const json_t *params, const char *key) {
    json_int_t number = json_integer_value(json_object_get(params, key));
    return number < 0 ? 0 : (uint64_t)number;
}

/* It becomes a path and the name of a device. */
static bool is_name(const char *name) {
    size_t length = strlen(name);
    return length > 0 && length <= DEVICE_NAME_MAX && name[0] != '.' && strchr(name, '/') == NULL && strchr(name, ' ') == NULL;
}

/* "IP:PORT", "[IP]:PORT" */
static bool read_target(const char *text, struct device_target *target) {
    const char *begin = text[0] == '[' ? text + 1 : text, *colon = strrchr(text, ':');
    if (colon == NULL || colon <= begin)
        return false;
    const char *end = colon[-1] == ']' ? colon - 1 : colon;
    return snprintf(target->address, sizeof(target->address), "%.*s", (int)(end - begin), begin) < (int)sizeof(target->address) &&
           snprintf(target->port, sizeof(target->port), "%s", colon + 1) < PORT_TEXT;
}

static json_t *put_status(const struct device_status *status) {
    json_t *paths = json_array();
    for (unsigned i = 0; i < status->disk.path_count; i++) {
        const struct kernel_path *path = &status->disk.paths[i];
        json_array_append_new(paths, json_pack("{s:s, s:s, s:s, s:s, s:s}", "controller", path->controller, "address",
                                               path->address, "port", path->port, "state", path->state, "ana_state", path->ana));
    }
    return json_pack("{s:s, s:I, s:b, s:s, s:o}", "device", status->path, "bytes", (json_int_t)status->mapping.bytes, "suspended",
                     status->mapping.suspended, "disk", status->disk.name, "paths", paths);
}

static json_t *attach(struct helper *helper, const json_t *params, struct error *error) {
    struct device_target targets[KERNEL_PATHS_MAX];
    struct device_status status;
    unsigned count = 0;
    size_t i;
    const json_t *target;
    json_array_foreach(json_object_get(params, "targets"), i, target) {
        const char *text = json_string_value(target);
        if (text == NULL || count == KERNEL_PATHS_MAX || !read_target(text, &targets[count++])) {
            error_invalid(error, "targets", text == NULL ? "" : text, "1 to %d of IP:PORT", KERNEL_PATHS_MAX);
            return NULL;
        }
    }
    if (count == 0) {
        error_invalid(error, "targets", "", "1 to %d of IP:PORT", KERNEL_PATHS_MAX);
        return NULL;
    }
    bool ok = device_attach(&helper->device, helper->volume, text_of(params, "nqn"), targets, count,
                            json_is_true(json_object_get(params, "only")), number_of(params, "bytes"),
                            number_of(params, "timeout_ms"), &status, error);
    return ok ? put_status(&status) : NULL;
}

static json_t *detach(struct helper *helper, const json_t *params, struct error *error) {
    return device_detach(&helper->device, helper->volume, text_of(params, "nqn"), error) ? json_true() : NULL;
}

static json_t *suspend(struct helper *helper, const json_t *params, struct error *error) {
    uint64_t lease;
    return device_suspend(&helper->device, helper->volume, number_of(params, "lease_ms"), &lease, error)
               ? json_integer((json_int_t)lease)
               : NULL;
}

static json_t *resume(struct helper *helper, const json_t *params, struct error *error) {
    return device_resume(&helper->device, helper->volume, number_of(params, "lease"), error) ? json_true() : NULL;
}

static json_t *get(struct helper *helper, const json_t *params, struct error *error) {
    struct device_status status;
    return device_look(&helper->device, helper->volume, text_of(params, "nqn"), &status, error) ? put_status(&status) : NULL;
}

static json_t *who(struct helper *helper, const json_t *params, struct error *error) {
    (void)helper;
    (void)params;
    (void)error;
    return json_pack("{s:i}", "pid", (int)getpid());
}

static json_t *list_methods(struct helper *helper, const json_t *params, struct error *error);

static const struct {
    const char *name;
    json_t *(*run)(struct helper *helper, const json_t *params, struct error *error);
    bool of_volume;
} methods[] = {
    {"blockdev_attach", attach, true},       {"blockdev_detach", detach, true},   {"blockdev_get", get, true},
    {"blockdev_resume", resume, true},       {"blockdev_suspend", suspend, true}, {"framework_get_reactors", who, false},
    {"rpc_get_methods", list_methods, false}};

static json_t *list_methods(struct helper *helper, const json_t *params, struct error *error) {
    json_t *list = json_array();
    (void)helper;
    (void)params;
    (void)error;
    for (size_t i = 0; i < array_count(methods); i++)
        json_array_append_new(list, json_string(methods[i].name));
    return list;
}

static json_t *run(struct helper *helper, const json_t *request, struct error *error) {
    const char *method = text_of(request, "method");
    const json_t *params = json_object_get(request, "params");
    for (size_t i = 0; i < array_count(methods); i++) {
        if (strcmp(methods[i].name, method) != 0)
            continue;
        const char *volume = text_of(params, "volume");
        if (methods[i].of_volume && !is_name(volume)) {
            error_invalid(error, "volume", volume, "a name without / and blanks, of at most %d bytes", DEVICE_NAME_MAX);
            return NULL;
        }
        if (methods[i].of_volume && helper->device.suspended_until_ms != 0 && strcmp(helper->volume, volume) != 0) {
            error_set(error, ERROR_BUSY, "this helper guards volume %s", helper->volume);
            return NULL;
        }
        if (methods[i].of_volume)
            snprintf(helper->volume, sizeof(helper->volume), "%s", volume);
        return methods[i].run(helper, params, error);
    }
    error_set(error, ERROR_UNSUPPORTED, "there is no method %s", method);
    return NULL;
}

/* ---- the socket ---- */

static bool send_all(int fd, const char *bytes, size_t length) {
    for (ssize_t n; length > 0; bytes += n, length -= (size_t)n) {
        n = send(fd, bytes, length, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
    }
    return true;
}

static bool answer(struct helper *helper, const json_t *request) {
    struct error error;
    error_clear(&error);
    json_t *result = run(helper, request, &error), *id = json_object_get(request, "id"), *message;
    if (result != NULL)
        message = json_pack("{s:s, s:O?, s:o}", "jsonrpc", "2.0", "id", id, "result", result);
    else
        message = json_pack("{s:s, s:O?, s:{s:i, s:s, s:{s:s, s:s, s:s, s:s}}}", "jsonrpc", "2.0", "id", id, "error", "code",
                            error_facts(error.code)->negative_errno, "message", error_facts(error.code)->errno_text, "data",
                            "text", error.text, "field", error.field, "value", error.value, "expected", error.expected);
    char *text = message == NULL ? NULL : json_dumps(message, JSON_COMPACT);
    bool ok = text != NULL && send_all(helper->client, text, strlen(text)) && send_all(helper->client, "\n", 1);
    if (result == NULL)
        fprintf(stderr, "%s of %s: %s%s\n", text_of(request, "method"), helper->volume, error.text, error.expected);
    free(text);
    json_decref(message);
    return ok;
}

/* Requests are objects one after the other. False: the client is to go. */
static bool take_requests(struct helper *helper) {
    json_error_t where;
    while (helper->length > 0) {
        json_t *request = json_loadb(helper->in, helper->length, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &where);
        if (request == NULL)
            return json_error_code(&where) == json_error_premature_end_of_input && helper->length < REQUEST_MAX;
        bool ok = json_is_object(request) && answer(helper, request);
        json_decref(request);
        if (!ok)
            return false;
        helper->length -= (size_t)where.position;
        memmove(helper->in, helper->in + where.position, helper->length);
        size_t blanks = strspn(helper->in, " \n\r\t");
        blanks = blanks < helper->length ? blanks : helper->length;
        helper->length -= blanks;
        memmove(helper->in, helper->in + blanks, helper->length);
        memset(helper->in + helper->length, 0, sizeof(helper->in) - helper->length);
    }
    return true;
}

static void drop_client(struct helper *helper) {
    close(helper->client);
    helper->client = -1;
    helper->length = 0;
    device_guard(&helper->device, helper->volume, true);
}

static void hear(struct helper *helper) {
    ssize_t n = read(helper->client, helper->in + helper->length, REQUEST_MAX - helper->length);
    if (n > 0)
        helper->length += (size_t)n;
    if ((n < 0 && errno != EINTR) || n == 0 || !take_requests(helper))
        drop_client(helper);
}

/* Until nobody has wanted anything for a while. */
static void serve(struct helper *helper) {
    for (;;) {
        struct pollfd fds[] = {{.fd = helper->listener, .events = POLLIN}, {.fd = helper->client, .events = POLLIN}};
        uint64_t guard = device_guard(&helper->device, helper->volume, helper->client < 0);
        uint64_t wait = helper->client < 0 && guard > LONELY_MS ? LONELY_MS : guard;
        int ready = poll(fds, 2, wait > INT32_MAX ? -1 : (int)wait);
        if (ready == 0 && helper->client < 0 && guard == UINT64_MAX)
            return;
        if (ready <= 0)
            continue;
        if (helper->client >= 0 && fds[1].revents != 0)
            hear(helper);
        if (fds[0].revents != 0) {
            int client = accept4(helper->listener, NULL, NULL, SOCK_CLOEXEC);
            if (client >= 0 && helper->client >= 0)
                drop_client(helper); /* the daemon that was started after it */
            if (client >= 0)
                helper->client = client;
        }
    }
}

/* -1: somebody listens there, or it cannot be. */
static int listen_on(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= (int)sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        close(fd);
        errno = EADDRINUSE;
        return -1;
    }
    close(fd);
    unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 4) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static void usage(FILE *to) {
    fprintf(to, "Usage: penstock-blockdev --socket PATH --host-nqn NQN --host-id UUID [--folder DIR]\n"
                "The block device of one volume, for penstockd, which starts it.\n");
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},   {"folder", required_argument, NULL, 'f'},
                                            {"host-nqn", required_argument, NULL, 'n'}, {"host-id", required_argument, NULL, 'i'},
                                            {"help", no_argument, NULL, 'h'},           {0}};
    static struct helper helper;
    const char *socket_path = NULL;
    helper.client = -1;
    helper.device = (struct device){.kernel = &kernel_linux, .folder = "/dev/longhorn"};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's': socket_path = optarg; break;
        case 'f': helper.device.folder = optarg; break;
        case 'n': helper.device.host_nqn = optarg; break;
        case 'i': helper.device.host_id = optarg; break;
        case 'h': usage(stdout); return 0;
        default: usage(stderr); return 64;
        }
    }
    if (socket_path == NULL || helper.device.host_nqn == NULL || helper.device.host_id == NULL || optind != argc) {
        usage(stderr);
        return 64;
    }
    dm_udev_set_sync_support(0); /* who waits for udev waits for rules that may look at a disk without a path */
    helper.listener = listen_on(socket_path);
    if (helper.listener < 0) {
        fprintf(stderr, "penstock-blockdev: %s: %s\n", socket_path, strerror(errno));
        return 71;
    }
    serve(&helper);
    unlink(socket_path);
    return 0;
}
