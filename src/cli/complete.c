/* Completion: `penstock __complete WORD … LAST` prints what LAST may become, a line each; the shells' few lines that call it are
 * printed by `penstock __complete --script bash|zsh|fish`. Names come from the running plane; if there is none, nothing is
 * offered. */
#include <string.h>

#include "cli/cli.h"
#include "plane_client/schema.h"

void cli_offer(const char *word, const char *beginning) {
    if (word != NULL && strncmp(word, beginning, strlen(beginning)) == 0)
        printf("%s\n", word);
}

/* The words of `path` behind those given; prints the next one once. */
static void offer_verbs(struct cli *cli, unsigned given, const char *last) {
    char previous[64] = "";
    for (unsigned v = 0; v < cli->verb_count; v++) {
        const struct cli_verb *verb = cli->verbs[v];
        const char *path = verb->path;
        unsigned i = 0;
        for (; i < given; i++) {
            size_t length = strcspn(path, " ");
            if (strlen(cli->arguments[i]) != length || strncmp(path, cli->arguments[i], length) != 0 || path[length] == '\0')
                break;
            path += length + 1;
        }
        char word[64];
        snprintf(word, sizeof(word), "%.*s", (int)strcspn(path, " "), path);
        if (i == given && path[0] != '_' && strcmp(word, previous) != 0) {
            cli_offer(word, last);
            memcpy(previous, word, sizeof(previous));
        }
    }
}

static void offer_volumes(struct cli *cli, const char *last, bool snapshots) {
    json_t *lvols, *lvol;
    size_t i;
    if (!cli_call(cli, "bdev_lvol_get_lvols", NULL, &lvols))
        return;
    json_array_foreach(lvols, i, lvol) if (!snapshots || json_is_true(json_object_get(lvol, "is_snapshot")))
        cli_offer(json_string_value(json_object_get(lvol, "alias")), last);
    json_decref(lvols);
}

static void offer_members(struct cli *cli, const char *last, const char *method, const char *key) {
    json_t *list, *item;
    size_t i;
    if (!cli_call(cli, method, NULL, &list))
        return;
    json_array_foreach(list, i, item)
        cli_offer(key != NULL ? json_string_value(json_object_get(item, key)) : json_string_value(item), last);
    json_decref(list);
}

static void offer_mirror_part(struct cli *cli, const char *mirror, bool legs, const char *last) {
    json_t *list, *item;
    size_t i;
    if (!cli_call(cli, legs ? "mirror_get" : "mirror_get_snapshots", json_pack("{s:s}", "name", mirror), &list))
        return;
    json_array_foreach(legs ? json_object_get(json_array_get(list, 0), "legs") : list, i, item)
        cli_offer(json_string_value(json_object_get(item, "name")), last);
    json_decref(list);
}

static unsigned count_words(const char *path) {
    unsigned words = 1;
    for (; *path != '\0'; path++)
        words += *path == ' ';
    return words;
}

/* The last of `given` words before it are the verb's arguments. */
static void offer_argument(struct cli *cli, const struct cli_verb *verb, unsigned given, const char *last) {
    unsigned words = count_words(verb->path);
    for (const struct cli_option *o = verb->options; o != NULL && o->name != NULL; o++)
        if (last[0] == '-')
            cli_offer(o->name, last);
    switch (verb->complete) {
    case CLI_COMPLETE_METHOD: break; /* see offer_rpc() */
    case CLI_COMPLETE_STORE: offer_members(cli, last, "bdev_lvol_get_lvstores", "name"); break;
    case CLI_COMPLETE_VOLUME: offer_volumes(cli, last, false); break;
    case CLI_COMPLETE_SNAPSHOT: offer_volumes(cli, last, true); break;
    case CLI_COMPLETE_NQN: offer_members(cli, last, "nvmf_get_subsystems", "nqn"); break;
    case CLI_COMPLETE_MIRROR: offer_members(cli, last, "mirror_get", "name"); break;
    case CLI_COMPLETE_MIRROR_LEG:
    case CLI_COMPLETE_MIRROR_SNAPSHOT:
        if (given == words)
            offer_members(cli, last, "mirror_get", "name");
        else
            offer_mirror_part(cli, cli->arguments[words], verb->complete == CLI_COMPLETE_MIRROR_LEG, last);
        break;
    case CLI_COMPLETE_NODE_DISK:
    case CLI_COMPLETE_NODE_REPLICA:
    case CLI_COMPLETE_NODE_ENGINE:
    case CLI_COMPLETE_NODE_FRONTEND:
    case CLI_COMPLETE_NODE_VOLUME:
    case CLI_COMPLETE_NODE_OBJECT:
    case CLI_COMPLETE_NODE_METHOD:
        if (cli->extension != NULL)
            cli->extension->complete(cli, verb->complete, last);
        break;
    case CLI_COMPLETE_NONE: break;
    }
}

/* Methods and their parameters come from the schema: no plane need run. */
static void offer_rpc(struct cli *cli, unsigned given, const char *last) {
    if (given == 1) {
        for (size_t i = 0; i < rpc_schema.count; i++)
            cli_offer(rpc_schema.methods[i].name, last);
        return;
    }
    const struct rpc_schema_method *method = rpc_schema_find(&rpc_schema, cli->arguments[1]);
    for (size_t i = 0; method != NULL && i < method->param_count; i++) {
        const struct rpc_schema_param *param = &method->params[i];
        char word[256];
        snprintf(word, sizeof(word), "%s=", param->name);
        if (strncmp(last, word, strlen(word)) != 0 && !param->no_effect)
            cli_offer(word, last);
        for (const char *const *value = param->values; value != NULL && *value != NULL && strncmp(last, word, strlen(word)) == 0;
             value++) {
            char pair[512];
            snprintf(pair, sizeof(pair), "%s%s", word, *value);
            cli_offer(pair, last);
        }
    }
}

static bool print_script(struct cli *cli, const char *shell) {
    if (strcmp(shell, "bash") == 0)
        printf("_penstock() {\n    mapfile -t COMPREPLY < <(penstock __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n "
               "   [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n}\n"
               "complete -o default -F _penstock penstock\n");
    else if (strcmp(shell, "zsh") == 0)
        printf("#compdef penstock\ncompadd -- ${(f)\"$(penstock __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"}\n");
    else if (strcmp(shell, "fish") == 0)
        printf("complete -c penstock -f -a '(penstock __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'\n");
    else
        return error_invalid(&cli->error, "shell", shell, "bash, zsh or fish");
    return true;
}

bool cli_complete(struct cli *cli) {
    if (cli->argument_count == 2 && strcmp(cli->arguments[0], "--script") == 0)
        return print_script(cli, cli->arguments[1]);
    unsigned given = cli->argument_count > 0 ? cli->argument_count - 1 : 0;
    const char *last = cli->argument_count > 0 ? cli->arguments[given] : "";
    offer_verbs(cli, given, last);
    if (given > 0 && strcmp(cli->arguments[0], "rpc") == 0) {
        offer_rpc(cli, given, last);
        return true;
    }
    for (unsigned v = 0; v < cli->verb_count; v++) {
        const struct cli_verb *verb = cli->verbs[v];
        char line[128] = "";
        for (unsigned i = 0; i < given && strlen(line) < strlen(verb->path); i++)
            snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s", i > 0 ? " " : "", cli->arguments[i]);
        if (strcmp(line, verb->path) == 0)
            offer_argument(cli, verb, given, last);
    }
    return true;
}
