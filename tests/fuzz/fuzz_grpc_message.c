/* Fuzzes the unpacking of messages: whatever the check lets through, protobuf-c takes as well, packs again and reads back the
 * same. */
#include <stdlib.h>

#include "grpc_echo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct budget budget;
    struct grpc_arena arena;
    const char *why = NULL;
    if (size > 16384)
        return 0;
    budget_init(&budget, NULL, MIB(64));
    grpc_arena_init(&arena, &budget);
    bool well_formed = grpc_message_check(WORDS, data, size, &why);
    const ProtobufCMessage *message = grpc_message_unpack(&arena, WORDS, data, size, &why);
    assert(message == NULL || well_formed);
    assert(arena.used <= GRPC_LIMIT_UNPACK_BASE + size * GRPC_LIMIT_UNPACK_FACTOR + 16);
    if (message != NULL) {
        size_t length = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = malloc(length + 1), *again = malloc(length + 1);
        assert(packed != NULL && again != NULL && protobuf_c_message_check(message));
        assert(protobuf_c_message_pack(message, packed) == length);
        assert(grpc_message_check(WORDS, packed, length, &why));
        ProtobufCMessage *plain = protobuf_c_message_unpack(WORDS, NULL, length, packed);
        assert(plain != NULL && protobuf_c_message_get_packed_size(plain) == length);
        protobuf_c_message_pack(plain, again);
        assert(memcmp(packed, again, length) == 0);
        protobuf_c_message_free_unpacked(plain, NULL);
        free(packed);
        free(again);
    }
    grpc_arena_fini(&arena);
    assert(budget.used == 0);
    return 0;
}
