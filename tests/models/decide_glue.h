/* What the model of the mirror (mirror.pml) needs to ask decide.c: declarations only. */
#include "blockdev/mirror/decide.h"

#define REPLICAS 3 /* spin has replaced the model's own by now */
