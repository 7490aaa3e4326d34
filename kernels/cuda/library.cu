// What the library says about itself.
#include "device.h"

extern "C" __attribute__((visibility("default"))) int32_t graphrec_abi_version(void) { return GRAPHREC_ABI_VERSION; }
