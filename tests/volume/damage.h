/* Damaged disks: what a store must say of them. Shared by test_damage and test_canary. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A record in the middle of the journal, after which a valid one proves that it was durable, is flipped in one bit: the store
 * must open read-only and say why, never as if the journal had ended there. False: `text` says what happened instead. */
bool damage_in_the_journal_is_told(char *text, size_t size);
/* One bit is flipped in a block of metadata, each in turn: the store either shows everything as it was, or says that something is
 * damaged (refuses, opens read-only, fences a volume). It never shows less, or something else, as if that were right. */
bool no_flip_goes_unnoticed(char *text, size_t size);
