/* Compiled by build.rs and never linked: it fails when the header of the installed ISA-L disagrees with
 * the layout, the sizes and the constants that isal.rs declares. */
#include <isa-l/igzip_lib.h>
#include <stddef.h>

#define AT(field, offset) _Static_assert(offsetof(struct isal_zstream, field) == (offset), #field)

#if UINTPTR_MAX == UINT64_MAX
AT(next_in, 0);
AT(avail_in, 8);
AT(total_in, 12);
AT(next_out, 16);
AT(avail_out, 24);
AT(total_out, 28);
AT(hufftables, 32);
AT(level, 40);
AT(level_buf_size, 44);
AT(level_buf, 48);
AT(end_of_stream, 56);
AT(flush, 58);
AT(gzip_flag, 60);
AT(hist_bits, 62);
AT(internal_state, 64);
#else
#error "isal.rs declares the layout of 64-bit targets only"
#endif

_Static_assert(sizeof(struct isal_zstream) <= 64 + 96 * 1024, "INTERNAL_BYTES");
_Static_assert(_Alignof(struct isal_zstream) <= 64, "alignment of Stream");
_Static_assert(ISAL_DEF_LVL1_MEDIUM <= 148 * 1024, "level_buffer_bytes(1)");
_Static_assert(ISAL_DEF_LVL2_MEDIUM <= 196 * 1024, "level_buffer_bytes(2)");
_Static_assert((ISAL_DEF_LVL3_MEDIUM) <= 212 * 1024, "level_buffer_bytes(3)");
_Static_assert(IGZIP_GZIP == 1, "GZIP");
_Static_assert(NO_FLUSH == 0, "NO_FLUSH");
_Static_assert(COMP_OK == 0, "COMP_OK");
