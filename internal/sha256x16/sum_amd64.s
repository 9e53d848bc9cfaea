// SHA-256 (FIPS 180-4) of sixteen messages side by side: lane i of every register is message i's.

#include "textflag.h"

// The constants of the rounds.
DATA k<>+0x000(SB)/8, $0x71374491428a2f98
DATA k<>+0x008(SB)/8, $0xe9b5dba5b5c0fbcf
DATA k<>+0x010(SB)/8, $0x59f111f13956c25b
DATA k<>+0x018(SB)/8, $0xab1c5ed5923f82a4
DATA k<>+0x020(SB)/8, $0x12835b01d807aa98
DATA k<>+0x028(SB)/8, $0x550c7dc3243185be
DATA k<>+0x030(SB)/8, $0x80deb1fe72be5d74
DATA k<>+0x038(SB)/8, $0xc19bf1749bdc06a7
DATA k<>+0x040(SB)/8, $0xefbe4786e49b69c1
DATA k<>+0x048(SB)/8, $0x240ca1cc0fc19dc6
DATA k<>+0x050(SB)/8, $0x4a7484aa2de92c6f
DATA k<>+0x058(SB)/8, $0x76f988da5cb0a9dc
DATA k<>+0x060(SB)/8, $0xa831c66d983e5152
DATA k<>+0x068(SB)/8, $0xbf597fc7b00327c8
DATA k<>+0x070(SB)/8, $0xd5a79147c6e00bf3
DATA k<>+0x078(SB)/8, $0x1429296706ca6351
DATA k<>+0x080(SB)/8, $0x2e1b213827b70a85
DATA k<>+0x088(SB)/8, $0x53380d134d2c6dfc
DATA k<>+0x090(SB)/8, $0x766a0abb650a7354
DATA k<>+0x098(SB)/8, $0x92722c8581c2c92e
DATA k<>+0x0a0(SB)/8, $0xa81a664ba2bfe8a1
DATA k<>+0x0a8(SB)/8, $0xc76c51a3c24b8b70
DATA k<>+0x0b0(SB)/8, $0xd6990624d192e819
DATA k<>+0x0b8(SB)/8, $0x106aa070f40e3585
DATA k<>+0x0c0(SB)/8, $0x1e376c0819a4c116
DATA k<>+0x0c8(SB)/8, $0x34b0bcb52748774c
DATA k<>+0x0d0(SB)/8, $0x4ed8aa4a391c0cb3
DATA k<>+0x0d8(SB)/8, $0x682e6ff35b9cca4f
DATA k<>+0x0e0(SB)/8, $0x78a5636f748f82ee
DATA k<>+0x0e8(SB)/8, $0x8cc7020884c87814
DATA k<>+0x0f0(SB)/8, $0xa4506ceb90befffa
DATA k<>+0x0f8(SB)/8, $0xc67178f2bef9a3f7
GLOBL k<>(SB), RODATA|NOPTR, $256

// Words are big-endian in a message.
DATA flip<>+0x00(SB)/8, $0x0405060700010203
DATA flip<>+0x08(SB)/8, $0x0c0d0e0f08090a0b
DATA flip<>+0x10(SB)/8, $0x0405060700010203
DATA flip<>+0x18(SB)/8, $0x0c0d0e0f08090a0b
DATA flip<>+0x20(SB)/8, $0x0405060700010203
DATA flip<>+0x28(SB)/8, $0x0c0d0e0f08090a0b
DATA flip<>+0x30(SB)/8, $0x0405060700010203
DATA flip<>+0x38(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $64

// The last sixteen words of the schedule. They are where TRANSPOSE leaves them.
#define W0 Z8
#define W1 Z10
#define W2 Z9
#define W3 Z11
#define W4 Z16
#define W5 Z18
#define W6 Z17
#define W7 Z19
#define W8 Z12
#define W9 Z14
#define W10 Z13
#define W11 Z15
#define W12 Z20
#define W13 Z22
#define W14 Z21
#define W15 Z23

#define T0 Z24
#define T1 Z25
#define T2 Z26
#define T3 Z27
#define FLIP Z31

// LOAD reads the block at DX of message i.
#define LOAD(i, row) \
	MOVQ      (8*i)(SI), R8;      \
	VMOVDQU32 (R8)(DX*1), row;    \
	VPSHUFB   FLIP, row, row

// ZIP4 and ZIP8 interleave words, or pairs of words, of two rows.
#define ZIP4(a, b) \
	VPUNPCKHDQ b, a, T0; \
	VPUNPCKLDQ b, a, a;  \
	VMOVDQA32  T0, b

#define ZIP8(a, b) \
	VPUNPCKHQDQ b, a, T0; \
	VPUNPCKLQDQ b, a, a;  \
	VMOVDQA32   T0, b

// ZIP16 makes columns of four registers, each of which has four words of four messages.
#define ZIP16(a, b, c, d) \
	VSHUFI32X4 $0x88, b, a, T0;   \
	VSHUFI32X4 $0x88, d, c, T1;   \
	VSHUFI32X4 $0xdd, b, a, T2;   \
	VSHUFI32X4 $0xdd, d, c, T3;   \
	VSHUFI32X4 $0x88, T1, T0, a;  \
	VSHUFI32X4 $0xdd, T1, T0, b;  \
	VSHUFI32X4 $0x88, T3, T2, c;  \
	VSHUFI32X4 $0xdd, T3, T2, d

// SUM3 is the exclusive or of three rotations of x; SHIFT3 has a shift for the third.
#define SUM3(r, s, t, x, to) \
	VPRORD     $r, x, to;         \
	VPRORD     $s, x, T1;         \
	VPRORD     $t, x, T2;         \
	VPTERNLOGD $0x96, T2, T1, to

#define SHIFT3(r, s, t, x, to) \
	VPRORD     $r, x, to;         \
	VPRORD     $s, x, T1;         \
	VPSRLD     $t, x, T2;         \
	VPTERNLOGD $0x96, T2, T1, to

// NEXT makes the word sixteen after w of it, of those 1, 9 and 14 after it.
#define NEXT(w, w1, w9, w14) \
	SHIFT3(7, 18, 3, w1, T0);    \
	VPADDD T0, w, w;             \
	VPADDD w9, w, w;             \
	SHIFT3(17, 19, 10, w14, T3); \
	VPADDD T3, w, w

// ROUND is round i of the sixteen whose constants are at AX. 0xca chooses f or g by e, 0xe8 is the majority.
#define ROUND(i, w, a, b, c, d, e, f, g, h) \
	VPADDD.BCST (4*i)(AX), w, T0;  \
	VPADDD      T0, h, h;          \
	SUM3(6, 11, 25, e, T3);        \
	VMOVDQA32   e, T0;             \
	VPTERNLOGD  $0xca, g, f, T0;   \
	VPADDD      T3, h, h;          \
	VPADDD      T0, h, h;          \
	VPADDD      h, d, d;           \
	SUM3(2, 13, 22, a, T3);        \
	VMOVDQA32   a, T0;             \
	VPTERNLOGD  $0xe8, c, b, T0;   \
	VPADDD      T3, h, h;          \
	VPADDD      T0, h, h

// ADD is the sum of a word of the state before a block and after it.
#define ADD(i, a) \
	VPADDD    (64*i)(DI), a, a; \
	VMOVDQU32 a, (64*i)(DI)

// func blocks(s *lanes, messages *[Lanes]*byte, n int)
// Requires: AVX512F, AVX512BW
TEXT ·blocks(SB), NOSPLIT, $0-24
	MOVQ      s+0(FP), DI
	MOVQ      messages+8(FP), SI
	MOVQ      n+16(FP), CX
	XORQ      DX, DX
	VMOVDQU32 flip<>(SB), FLIP
	VMOVDQU32 0(DI), Z0
	VMOVDQU32 64(DI), Z1
	VMOVDQU32 128(DI), Z2
	VMOVDQU32 192(DI), Z3
	VMOVDQU32 256(DI), Z4
	VMOVDQU32 320(DI), Z5
	VMOVDQU32 384(DI), Z6
	VMOVDQU32 448(DI), Z7

block:
	LOAD(0, Z8)
	LOAD(1, Z9)
	LOAD(2, Z10)
	LOAD(3, Z11)
	LOAD(4, Z12)
	LOAD(5, Z13)
	LOAD(6, Z14)
	LOAD(7, Z15)
	LOAD(8, Z16)
	LOAD(9, Z17)
	LOAD(10, Z18)
	LOAD(11, Z19)
	LOAD(12, Z20)
	LOAD(13, Z21)
	LOAD(14, Z22)
	LOAD(15, Z23)

	ZIP4(Z8, Z9)
	ZIP4(Z10, Z11)
	ZIP4(Z12, Z13)
	ZIP4(Z14, Z15)
	ZIP4(Z16, Z17)
	ZIP4(Z18, Z19)
	ZIP4(Z20, Z21)
	ZIP4(Z22, Z23)
	ZIP8(Z8, Z10)
	ZIP8(Z9, Z11)
	ZIP8(Z12, Z14)
	ZIP8(Z13, Z15)
	ZIP8(Z16, Z18)
	ZIP8(Z17, Z19)
	ZIP8(Z20, Z22)
	ZIP8(Z21, Z23)
	ZIP16(Z8, Z12, Z16, Z20)
	ZIP16(Z9, Z13, Z17, Z21)
	ZIP16(Z10, Z14, Z18, Z22)
	ZIP16(Z11, Z15, Z19, Z23)

	LEAQ k<>(SB), AX
	MOVQ $4, R9

rounds:
	ROUND(0, W0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	ROUND(1, W1, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6)
	ROUND(2, W2, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5)
	ROUND(3, W3, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4)
	ROUND(4, W4, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3)
	ROUND(5, W5, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2)
	ROUND(6, W6, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1)
	ROUND(7, W7, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0)
	ROUND(8, W8, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	ROUND(9, W9, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6)
	ROUND(10, W10, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5)
	ROUND(11, W11, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4)
	ROUND(12, W12, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3)
	ROUND(13, W13, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2)
	ROUND(14, W14, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1)
	ROUND(15, W15, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0)
	DECQ R9
	JEQ  sums
	ADDQ $64, AX
	NEXT(W0, W1, W9, W14)
	NEXT(W1, W2, W10, W15)
	NEXT(W2, W3, W11, W0)
	NEXT(W3, W4, W12, W1)
	NEXT(W4, W5, W13, W2)
	NEXT(W5, W6, W14, W3)
	NEXT(W6, W7, W15, W4)
	NEXT(W7, W8, W0, W5)
	NEXT(W8, W9, W1, W6)
	NEXT(W9, W10, W2, W7)
	NEXT(W10, W11, W3, W8)
	NEXT(W11, W12, W4, W9)
	NEXT(W12, W13, W5, W10)
	NEXT(W13, W14, W6, W11)
	NEXT(W14, W15, W7, W12)
	NEXT(W15, W0, W8, W13)
	JMP  rounds

sums:
	ADD(0, Z0)
	ADD(1, Z1)
	ADD(2, Z2)
	ADD(3, Z3)
	ADD(4, Z4)
	ADD(5, Z5)
	ADD(6, Z6)
	ADD(7, Z7)
	ADDQ $64, DX
	DECQ CX
	JNZ  block
	VZEROUPPER
	RET
