/* Finds the verb, checks its words against the table, runs it, prints what went wrong. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"

enum { TEXT_MAX = 1 << 20 };

static bool hidden(const struct cli_verb *verb) { return verb->path[0] == '_'; }

static unsigned count_words(const char *text) {
    unsigned count = 0;
    for (bool in = false; *text != '\0'; text++) {
        if (*text != ' ' && !in)
            count++;
        in = *text != ' ';
    }
    return count;
}

/* True if argv begins with the words of `path`; tells how many they are. */
static bool matches(const char *path, int argc, char **argv, int *ret_words) {
    int word = 0;
    while (*path != '\0') {
        size_t length = strcspn(path, " ");
        if (word >= argc || strlen(argv[word]) != length || strncmp(argv[word], path, length) != 0)
            return false;
        word++;
        path += length;
        path += *path == ' ';
    }
    *ret_words = word;
    return true;
}

static void print_help_line(const struct cli_verb *verb, FILE *to) {
    char left[128];
    int bytes = snprintf(left, sizeof(left), "%s %s", verb->path, verb->arguments), columns = 0;
    for (int i = 0; i < bytes; i++)
        columns += (left[i] & 0xc0) != 0x80; /* the bytes of UTF-8 that begin a character */
    fprintf(to, "  %-*s %.*s\n", 44 + bytes - columns, left, (int)strcspn(verb->help, "\n"), verb->help);
}

static void print_usage(const struct cli *cli, FILE *to) {
    fprintf(to, "Usage: %s [OPTION]… VERB …\n\nVerbs:\n", cli->program);
    for (unsigned i = 0; i < cli->verb_count; i++)
        if (!hidden(cli->verbs[i]))
            print_help_line(cli->verbs[i], to);
    fprintf(to, "\n");
    for (const struct cli_global_option *o = cli_global_options; o->name != NULL; o++)
        if (cli->extension != NULL || !o->of_extension)
            fprintf(to, "  %s%s%s %-*s %s\n", o->brief != NULL ? o->brief : "  ", o->brief != NULL ? ", " : "  ", o->name,
                    20 - (int)strlen(o->name), o->value, o->help);
    fprintf(to, "      --help               this, or more of a verb behind it\n      --version            the version\n");
}

static void print_verb_help(const struct cli *cli, const struct cli_verb *verb, FILE *to) {
    fprintf(to, "Usage: %s %s %s\n\n", cli->program, verb->path, verb->arguments);
    const char *more = strchr(verb->help, '\n');
    fprintf(to, "%.*s.\n", (int)strcspn(verb->help, "\n"), verb->help);
    if (more != NULL)
        fprintf(to, "%s\n", more + 1);
    for (const struct cli_option *o = verb->options; o != NULL && o->name != NULL; o++) {
        char left[64];
        snprintf(left, sizeof(left), "%s%s%s", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
        fprintf(to, "  %-26s %s\n", left, o->help);
    }
}

const char *cli_option(const struct cli *cli, const char *name) {
    for (unsigned i = 0; cli->verb->options[i].name != NULL; i++)
        if (strcmp(cli->verb->options[i].name, name) == 0)
            return cli->option_values[i];
    assert(!"an option that is in the verb's table");
    return NULL;
}

bool cli_read_text(struct cli *cli, const char *path, char **ret_text) {
    FILE *file = fopen(path, "re");
    char *text = file == NULL ? NULL : calloc(1, TEXT_MAX + 1);
    size_t length = text == NULL ? 0 : fread(text, 1, TEXT_MAX, file);
    if (file != NULL)
        fclose(file);
    if (length == 0) {
        free(text);
        return error_set(&cli->error, ERROR_NOT_FOUND, "%s cannot be read", path);
    }
    *ret_text = text;
    return true;
}

void cli_forget_text(char *take_text) {
    if (take_text != NULL)
        explicit_bzero(take_text, strlen(take_text));
    free(take_text);
}

bool cli_yes(struct cli *cli, const char *loss_format, ...) {
    char loss[200];
    va_list args;
    if (cli_option(cli, "--yes") != NULL)
        return true;
    va_start(args, loss_format);
    vsnprintf(loss, sizeof(loss), loss_format, args);
    va_end(args);
    error_set(&cli->error, ERROR_INVALID, "%s", loss);
    return error_hint(&cli->error, "say --yes if that is what you want");
}

bool cli_size(struct cli *cli, const char *what, const char *text, uint64_t *ret_bytes) {
    if (text_parse_size(text, ret_bytes) && *ret_bytes > 0)
        return true;
    return error_invalid(&cli->error, what, text, "a size such as 10G or 512M");
}

/* Takes an option of the verb at argv[0]; returns how many words it took, 0 after an error. */
static int take_option(struct cli *cli, int argc, char **argv) {
    const struct cli_option *options = cli->verb->options;
    size_t length = strcspn(argv[0], "=");
    for (unsigned i = 0; options != NULL && options[i].name != NULL; i++) {
        if (strlen(options[i].name) != length || strncmp(options[i].name, argv[0], length) != 0)
            continue;
        if (options[i].value == NULL) {
            cli->option_values[i] = "";
            return 1;
        }
        if (argv[0][length] == '=') {
            cli->option_values[i] = argv[0] + length + 1;
            return 1;
        }
        if (argc < 2) {
            error_set(&cli->error, ERROR_INVALID, "%s wants %s", options[i].name, options[i].value);
            return 0;
        }
        cli->option_values[i] = argv[1];
        return 2;
    }
    error_set(&cli->error, ERROR_INVALID, "%s has no option %s", cli->verb->path, argv[0]);
    return 0;
}

/* "A [B]": one or two; "A B …": two or more. */
static bool count_is_right(const struct cli_verb *verb, unsigned count) {
    char needed[128];
    bool more = strstr(verb->arguments, "…") != NULL;
    unsigned words = count_words(verb->arguments) - more;
    snprintf(needed, sizeof(needed), "%.*s", (int)strcspn(verb->arguments, "["), verb->arguments);
    unsigned least = count_words(needed) - (strstr(needed, "…") != NULL);
    return count >= least && (more || count <= words);
}

/* argv is behind the verb. */
static bool take_words(struct cli *cli, int argc, char **argv) {
    bool free_form = hidden(cli->verb);
    while (argc > 0) {
        if (!free_form && argv[0][0] == '-' && argv[0][1] != '\0') {
            if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
                print_verb_help(cli, cli->verb, stdout);
                exit(EXIT_SUCCESS);
            }
            int taken = take_option(cli, argc, argv);
            if (taken == 0)
                return false;
            argc -= taken;
            argv += taken;
            continue;
        }
        if (cli->argument_count == CLI_ARGUMENTS_MAX)
            return error_set(&cli->error, ERROR_INVALID, "more than %d arguments", CLI_ARGUMENTS_MAX);
        cli->arguments[cli->argument_count++] = *argv++;
        argc--;
    }
    if (!free_form && !count_is_right(cli->verb, cli->argument_count))
        return error_set(&cli->error, ERROR_INVALID, "usage: %s %s %s", cli->program, cli->verb->path, cli->verb->arguments);
    return true;
}

static const struct cli_global_option *find_global(const struct cli *cli, const char *word) {
    size_t length = strcspn(word, "=");
    for (const struct cli_global_option *o = cli_global_options; o->name != NULL && word[0] == '-'; o++)
        if ((cli->extension != NULL || !o->of_extension) && ((o->brief != NULL && strcmp(word, o->brief) == 0) ||
                                                             (strlen(o->name) == length && strncmp(word, o->name, length) == 0)))
            return o;
    return NULL;
}

static bool set_output(struct cli *cli, const char *value) {
    static const char *const names[] = {[CLI_TABLE] = "table", [CLI_WIDE] = "wide", [CLI_JSON] = "json", [CLI_YAML] = "yaml"};
    for (unsigned i = 0; i < array_count(names); i++)
        if (strcmp(value, names[i]) == 0) {
            cli->output = (enum cli_output)i;
            return true;
        }
    return error_invalid(&cli->error, "output", value, "table, wide, json or yaml");
}

static bool set_global(struct cli *cli, const struct cli_global_option *option, const char *value) {
    const struct {
        const char *name, **to;
    } texts[] = {{"--socket", &cli->socket},   {"--node", &cli->nodes},
                 {"--tls-ca", &cli->tls_ca},   {"--tls-cert", &cli->tls_certificate},
                 {"--tls-key", &cli->tls_key}, {"--tls-name", &cli->tls_name}};
    cli->socket_given = cli->socket_given || strcmp(option->name, "--socket") == 0;
    cli->nodes_given = cli->nodes_given || strcmp(option->name, "--node") == 0;
    for (unsigned i = 0; i < array_count(texts); i++)
        if (strcmp(option->name, texts[i].name) == 0) {
            *texts[i].to = value;
            return true;
        }
    return set_output(cli, value);
}

/* Takes those for all verbs, wherever they stand. Compacts argv; false after an error. */
static bool take_global_options(struct cli *cli, int *argc, char **argv) {
    int kept = 0;
    bool behind_hidden = false;
    for (int i = 0; i < *argc; i++) {
        const struct cli_global_option *option = find_global(cli, argv[i]);
        behind_hidden = behind_hidden || argv[i][0] == '_';
        if (behind_hidden || option == NULL) {
            argv[kept++] = argv[i];
            continue;
        }
        const char *equals = strncmp(argv[i], "--", 2) == 0 ? strchr(argv[i], '=') : NULL;
        if (equals == NULL && i + 1 == *argc)
            return error_set(&cli->error, ERROR_INVALID, "%s wants %s", argv[i], option->value);
        if (!set_global(cli, option, equals != NULL ? equals + 1 : argv[++i]))
            return false;
    }
    *argc = kept;
    return true;
}

static bool find_verb(struct cli *cli, int argc, char **argv, int *ret_words) {
    for (unsigned i = 0; i < cli->verb_count; i++)
        if (matches(cli->verbs[i]->path, argc, argv, ret_words)) {
            cli->verb = cli->verbs[i];
            return true;
        }
    /* a beginning of verbs ("block volume") lists them */
    bool any = false;
    for (unsigned v = 0; v < cli->verb_count; v++) {
        const struct cli_verb *verb = cli->verbs[v];
        const char *path = verb->path;
        bool fits = argc > 0;
        for (int i = 0; i < argc && argv[i][0] != '-' && fits; i++) {
            size_t length = strcspn(path, " ");
            fits = strlen(argv[i]) == length && strncmp(argv[i], path, length) == 0;
            path += length + (path[length] == ' ');
        }
        if (fits && !hidden(verb)) {
            print_help_line(verb, argc > 0 && strcmp(argv[argc - 1], "--help") == 0 ? stdout : stderr);
            any = true;
        }
    }
    if (any && strcmp(argv[argc - 1], "--help") == 0)
        exit(EXIT_SUCCESS);
    if (any)
        return error_set(&cli->error, ERROR_INVALID, "which of these?");
    error_set(&cli->error, ERROR_INVALID, "no verb %s", argc > 0 ? argv[0] : "given");
    return error_hint(&cli->error, "%s --help lists them", cli->program);
}

static void call_done(struct plane_call *call) {
    struct cli *cli = call->arg;
    host_loop_stop(cli->reactor->loop);
}

bool cli_call(struct cli *cli, const char *method, json_t *take_params, json_t **ret_result) {
    if (cli->client == NULL) {
        reactor_enter(cli->reactor);
        bool connected = plane_client_create(cli->reactor, cli->socket, &cli->client, &cli->error);
        reactor_enter(NULL);
        if (!connected) {
            json_decref(take_params);
            return false;
        }
    }
    struct plane_call call = {.method = method, .params = take_params, .done = call_done, .arg = cli};
    reactor_enter(cli->reactor);
    plane_client_call(cli->client, &call);
    reactor_enter(NULL);
    cli->run(cli->reactor->loop);
    json_decref(take_params);
    *ret_result = call.result;
    if (!call.ok)
        cli->error = call.error;
    return call.ok;
}

bool cli_do(struct cli *cli, const char *method, json_t *take_params) {
    json_t *result;
    if (!cli_call(cli, method, take_params, &result))
        return false;
    if (cli_wants_data(cli))
        cli_print(cli, result);
    json_decref(result);
    return true;
}

const char *cli_member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

struct nap {
    struct reactor_timer timer;
    struct host_loop *loop;
};

static void nap_over(struct reactor_timer *timer) { host_loop_stop(container_of(timer, struct nap, timer)->loop); }

void cli_sleep(struct cli *cli, uint64_t ms) {
    struct nap nap = {.timer.run = nap_over, .loop = cli->reactor->loop};
    reactor_enter(cli->reactor);
    reactor_timer_start(cli->reactor, &nap.timer, host_now_ns(cli->reactor->host) + ms * NS_PER_MS);
    reactor_enter(NULL);
    cli->run(cli->reactor->loop);
}

static int finish(struct cli *cli, bool ok) {
    if (cli->client != NULL) {
        reactor_enter(cli->reactor);
        plane_client_destroy(cli->client);
        reactor_enter(NULL);
    }
    if (cli->extension != NULL)
        cli->extension->fini(cli);
    if (ok)
        return cli->exit_status;
    fprintf(stderr, "%s: %s\n", cli->program, cli->error.text);
    if (cli->error.expected[0] != '\0' && strstr(cli->error.text, cli->error.expected) == NULL)
        fprintf(stderr, "  %s%s%s\n", cli->error.field, cli->error.field[0] != '\0' ? ": expected " : "", cli->error.expected);
    return error_facts(cli->error.code)->exit_status;
}

static void take_environment(struct cli *cli) {
    const struct {
        const char *name, **to;
    } texts[] = {{"PENSTOCK_SOCKET", &cli->socket},   {"PENSTOCK_NODE", &cli->nodes},
                 {"PENSTOCK_TLS_CA", &cli->tls_ca},   {"PENSTOCK_TLS_CERT", &cli->tls_certificate},
                 {"PENSTOCK_TLS_KEY", &cli->tls_key}, {"PENSTOCK_TLS_NAME", &cli->tls_name}};
    for (unsigned i = 0; i < array_count(texts); i++)
        *texts[i].to = getenv(texts[i].name);
    cli->socket_given = cli->socket != NULL;
    cli->nodes_given = cli->nodes != NULL;
    if (cli->socket == NULL)
        cli->socket = PLANE_CLIENT_SOCKET_DEFAULT;
    if (cli->nodes == NULL)
        cli->nodes = CLI_NODE_DEFAULT;
}

static void add_verbs(struct cli *cli, const struct cli_verb *verbs) {
    for (; verbs->path != NULL; verbs++) {
        assert(cli->verb_count < CLI_VERBS_MAX);
        cli->verbs[cli->verb_count++] = verbs;
    }
}

int cli_main(struct reactor *reactor, void (*run)(struct host_loop *loop), const struct cli_extension *extension, bool terminal,
             int argc, char **argv) {
    struct cli cli = {.program = "penstock", .reactor = reactor, .run = run, .extension = extension, .terminal = terminal};
    take_environment(&cli);
    add_verbs(&cli, cli_verbs);
    if (extension != NULL)
        add_verbs(&cli, extension->verbs);
    if (extension != NULL && extension->more_verbs != NULL)
        add_verbs(&cli, extension->more_verbs);
    argc--;
    argv++;
    if (!take_global_options(&cli, &argc, argv))
        return finish(&cli, false);
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 || strcmp(argv[0], "help") == 0)) {
        print_usage(&cli, stdout);
        return EXIT_SUCCESS;
    }
    if (argc > 0 && strcmp(argv[0], "--version") == 0) {
        printf("penstock %s\n", PENSTOCK_VERSION);
        return EXIT_SUCCESS;
    }
    if (argc == 0) {
        print_usage(&cli, stderr);
        return 64;
    }
    int words = 0;
    bool ok = find_verb(&cli, argc, argv, &words) && take_words(&cli, argc - words, argv + words) && cli.verb->run(&cli);
    return finish(&cli, ok);
}
