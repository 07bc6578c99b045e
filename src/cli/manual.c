/* `penstock __manual`: the manual page's source (scdoc), from the table of verbs. */
#include <string.h>

#include "cli/cli.h"

/* scdoc reads _, * and backslashes as marks. */
static void escaped(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (strchr("_*\\[]<>#", text[i]) != NULL)
            putchar('\\');
        putchar(text[i]);
    }
}

bool cli_manual(struct cli *cli) {
    printf("penstock(1)\n\n# NAME\n\npenstock - looks at and changes a node's disks, replicas, volumes and exports\n\n"
           "# SYNOPSIS\n\n*penstock* \\[OPTION\\]… VERB …\n\n"
           "# DESCRIPTION\n\nVerbs that begin with *block*, and *rpc*, talk to a running *penstock-block*(8) over its socket; "
           "all others to "
           "*penstockd*(8). *status* asks the plane only if that is named and no daemon is. Tables are for people; *-o json* and "
           "*-o "
           "yaml* are for programs.\n\n# OPTIONS\n\n");
    for (const struct cli_global_option *o = cli_global_options; o->name != NULL; o++) {
        printf("%s%s%s*%s* %s\n\t", o->brief != NULL ? "*" : "", o->brief != NULL ? o->brief : "", o->brief != NULL ? "*, " : "",
               o->name, o->value);
        escaped(o->help, strlen(o->help));
        printf(".\n\n");
    }
    printf("# VERBS\n\n");
    for (unsigned i = 0; i < cli->verb_count; i++) {
        const struct cli_verb *verb = cli->verbs[i];
        if (verb->path[0] == '_')
            continue;
        printf("*%s* ", verb->path);
        escaped(verb->arguments, strlen(verb->arguments));
        printf("\n\t");
        size_t first = strcspn(verb->help, "\n");
        escaped(verb->help, first);
        printf(". ");
        if (verb->help[first] == '\n')
            escaped(verb->help + first + 1, strlen(verb->help + first + 1));
        printf("\n\n");
        for (const struct cli_option *o = verb->options; o != NULL && o->name != NULL; o++) {
            printf("\t*%s* %s\n\t\t", o->name, o->value != NULL ? o->value : "");
            escaped(o->help, strlen(o->help));
            printf("\n\n");
        }
    }
    printf("# EXIT STATUS\n\n0 on success; otherwise as in sysexits.h: 64 a wrong argument, 66 no such thing, 69 unsupported, 73 "
           "the "
           "name is taken, 74 an I/O error or no space, 75 busy or nobody answers, try again, 77 not permitted. *status* and "
           "*block mirror "
           "verify*: 1 if not all is well.\n\n# SEE ALSO\n\n*penstockd*(8), *penstock-block*(8), *penstock-bench*(1), "
           "*penstock-fsck*(8)\n");
    return true;
}
