#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

void cli_table_init(struct cli_table *table, const char *const *titles, unsigned columns, unsigned right) {
    assert(columns <= CLI_COLUMNS_MAX);
    *table = (struct cli_table){.columns = columns, .titles = titles, .right = right};
}

void cli_table_row(struct cli_table *table, ...) {
    if (table->rows == table->capacity) {
        unsigned capacity = table->capacity == 0 ? 16 : table->capacity * 2;
        char(*cells)[CLI_CELL_MAX] = realloc(table->cells, (size_t)capacity * table->columns * CLI_CELL_MAX);
        if (cells == NULL)
            abort(); /* nothing sensible can be printed */
        table->cells = cells;
        table->capacity = capacity;
    }
    va_list args;
    va_start(args, table);
    for (unsigned c = 0; c < table->columns; c++)
        snprintf(table->cells[table->rows * table->columns + c], CLI_CELL_MAX, "%s", va_arg(args, const char *));
    va_end(args);
    table->rows++;
}

static void print_row(const struct cli_table *table, const size_t *widths,
                      const char *(*cell)(const struct cli_table *, unsigned, unsigned), unsigned row, FILE *to) {
    for (unsigned c = 0; c < table->columns; c++) {
        int width = c + 1 == table->columns && (table->right >> c & 1) == 0 ? 0 : (int)widths[c];
        fprintf(to, table->right >> c & 1 ? "%*s" : "%-*s", width, cell(table, row, c));
        fputs(c + 1 == table->columns ? "\n" : "  ", to);
    }
}

static const char *title_cell(const struct cli_table *table, unsigned row, unsigned column) {
    (void)row;
    return table->titles[column];
}
static const char *body_cell(const struct cli_table *table, unsigned row, unsigned column) {
    return table->cells[row * table->columns + column];
}

void cli_table_print(struct cli_table *table, FILE *to) {
    size_t widths[CLI_COLUMNS_MAX];
    for (unsigned c = 0; c < table->columns; c++) {
        widths[c] = strlen(table->titles[c]);
        for (unsigned r = 0; r < table->rows; r++)
            widths[c] = max_u64(widths[c], strlen(body_cell(table, r, c)));
    }
    print_row(table, widths, title_cell, 0, to);
    for (unsigned r = 0; r < table->rows; r++)
        print_row(table, widths, body_cell, r, to);
    free(table->cells);
    table->cells = NULL;
}
