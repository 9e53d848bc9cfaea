// AES-GCM (NIST SP 800-38D, FIPS 197, RFC 8452 appendix A), sixteen blocks at a time, four in each register.

#include "textflag.h"

// The counter, the last word of a block, is big-endian.
DATA flipCounter<>+0x00(SB)/8, $0x0706050403020100
DATA flipCounter<>+0x08(SB)/8, $0x0c0d0e0f0b0a0908
DATA flipCounter<>+0x10(SB)/8, $0x0706050403020100
DATA flipCounter<>+0x18(SB)/8, $0x0c0d0e0f0b0a0908
DATA flipCounter<>+0x20(SB)/8, $0x0706050403020100
DATA flipCounter<>+0x28(SB)/8, $0x0c0d0e0f0b0a0908
DATA flipCounter<>+0x30(SB)/8, $0x0706050403020100
DATA flipCounter<>+0x38(SB)/8, $0x0c0d0e0f0b0a0908
GLOBL flipCounter<>(SB), RODATA|NOPTR, $64

// All bytes of a block in reverse order.
DATA reverse<>+0x00(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+0x08(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

// The counters of four blocks beside the first's.
DATA first<>+0x00(SB)/8, $0
DATA first<>+0x08(SB)/8, $0
DATA first<>+0x10(SB)/8, $0
DATA first<>+0x18(SB)/8, $0x0000000100000000
DATA first<>+0x20(SB)/8, $0
DATA first<>+0x28(SB)/8, $0x0000000200000000
DATA first<>+0x30(SB)/8, $0
DATA first<>+0x38(SB)/8, $0x0000000300000000
GLOBL first<>(SB), RODATA|NOPTR, $64

// Four blocks on.
DATA four<>+0x00(SB)/8, $0
DATA four<>+0x08(SB)/8, $0x0000000400000000
DATA four<>+0x10(SB)/8, $0
DATA four<>+0x18(SB)/8, $0x0000000400000000
DATA four<>+0x20(SB)/8, $0
DATA four<>+0x28(SB)/8, $0x0000000400000000
DATA four<>+0x30(SB)/8, $0
DATA four<>+0x38(SB)/8, $0x0000000400000000
GLOBL four<>(SB), RODATA|NOPTR, $64

// x^63 + x^62 + x^57: the upper half of what the polynomial x^128 + x^127 + x^126 + x^121 + 1 has between its ends.
DATA poly<>+0x00(SB)/8, $0xc200000000000000
DATA poly<>+0x08(SB)/8, $0
GLOBL poly<>(SB), RODATA|NOPTR, $16

// Where things are in a schedule.
#define KEYS 0
#define ROUNDS 240
#define POWERS 248
#define POWERSEND (POWERS+256)

// SUMS is where, beside a power, the sum of its halves is.
#define SUMS 496

#define ROUND(KEY) \
	VAESENC KEY, Z20, Z20 \
	VAESENC KEY, Z21, Z21 \
	VAESENC KEY, Z22, Z22 \
	VAESENC KEY, Z23, Z23

// COUNT makes the counters of sixteen blocks in Z20 to Z23, under the first key, and counts.
#define COUNT \
	VPSHUFB flipCounter<>(SB), Z15, Z20 \
	VPADDD  four<>(SB), Z15, Z15 \
	VPSHUFB flipCounter<>(SB), Z15, Z21 \
	VPADDD  four<>(SB), Z15, Z15 \
	VPSHUFB flipCounter<>(SB), Z15, Z22 \
	VPADDD  four<>(SB), Z15, Z15 \
	VPSHUFB flipCounter<>(SB), Z15, Z23 \
	VPADDD  four<>(SB), Z15, Z15 \
	VPXORQ  Z0, Z20, Z20 \
	VPXORQ  Z0, Z21, Z21 \
	VPXORQ  Z0, Z22, Z22 \
	VPXORQ  Z0, Z23, Z23

// LASTROUNDS are those from the tenth on.
#define LASTROUNDS(LAST) \
	CMPQ    R8, $10 \
	JEQ     LAST \
	ROUND(Z10) \
	ROUND(Z11) \
	ROUND(Z12) \
	ROUND(Z13) \
LAST: \
	VAESENCLAST Z14, Z20, Z20 \
	VAESENCLAST Z14, Z21, Z21 \
	VAESENCLAST Z14, Z22, Z22 \
	VAESENCLAST Z14, Z23, Z23

// STREAM makes 256 bytes of key stream in Z20 to Z23, and counts.
#define STREAM(LAST) \
	COUNT \
	ROUND(Z1) \
	ROUND(Z2) \
	ROUND(Z3) \
	ROUND(Z4) \
	ROUND(Z5) \
	ROUND(Z6) \
	ROUND(Z7) \
	ROUND(Z8) \
	ROUND(Z9) \
	LASTROUNDS(LAST)

// PRODUCT is three of the four products of the halves of DATA and of the powers at AT: low in LOW, high in HIGH, which may be DATA, and in SUM that of the sums of the halves, which
// is the sum of all four (Karatsuba and Ofman 1962).
#define PRODUCT(DATA, AT, LOW, HIGH, SUM) \
	VPSHUFD    $0x4e, DATA, SUM \
	VPXORQ     DATA, SUM, SUM \
	VPCLMULQDQ $0x00, AT(R10), DATA, LOW \
	VPCLMULQDQ $0x11, AT(R10), DATA, HIGH \
	VPCLMULQDQ $0x00, (AT+SUMS)(R10), SUM, SUM

// HASH1 to HASH9 take the sixteen blocks in Z24 to Z27, as a message has them, into the hash in X19. R10 is where the first one's power is, X31 has poly. They spoil Z16, Z17 and Z24
// to Z30. In parts, so that a stream is made between them: each waits for the one before, and a processor does not look far enough ahead.
#define HASH1 \
	VPSHUFB Z18, Z24, Z24 \
	VPSHUFB Z18, Z25, Z25 \
	VPSHUFB Z18, Z26, Z26 \
	VPSHUFB Z18, Z27, Z27 \
	VPXORQ  Z19, Z24, Z24

#define HASH2 \
	PRODUCT(Z25, 64, Z28, Z29, Z30)

#define HASH3 \
	PRODUCT(Z26, 128, Z16, Z17, Z25) \
	VPXORQ Z16, Z28, Z28 \
	VPXORQ Z17, Z29, Z29

#define HASH4 \
	PRODUCT(Z27, 192, Z16, Z17, Z26) \
	VPTERNLOGQ $0x96, Z25, Z26, Z30

#define HASH5 \
	PRODUCT(Z24, 0, Z25, Z26, Z27) \
	VPTERNLOGQ $0x96, Z16, Z25, Z28 \
	VPTERNLOGQ $0x96, Z17, Z26, Z29 \
	VPXORQ     Z27, Z30, Z30

#define HASH6 \
	VPTERNLOGQ $0x96, Z28, Z29, Z30 \
	VPSLLDQ    $8, Z30, Z16 \
	VPSRLDQ    $8, Z30, Z17 \
	VPXORQ     Z16, Z28, Z28 \
	VPXORQ     Z17, Z29, Z29

#define HASH7 \
	VEXTRACTI64X4 $1, Z28, Y16 \
	VEXTRACTI64X4 $1, Z29, Y17 \
	VPXORQ        Y16, Y28, Y28 \
	VPXORQ        Y17, Y29, Y29 \
	VEXTRACTI32X4 $1, Y28, X16 \
	VEXTRACTI32X4 $1, Y29, X17 \
	VPXORQ        X16, X28, X28 \
	VPXORQ        X17, X29, X29

#define HASH8 \
	VPCLMULQDQ $0x00, X31, X28, X16 \
	VPSHUFD    $0x4e, X28, X28 \
	VPXORQ     X16, X28, X28

#define HASH9 \
	VPCLMULQDQ $0x00, X31, X28, X16 \
	VPSHUFD    $0x4e, X28, X28 \
	VPTERNLOGQ $0x96, X16, X28, X29 \
	VMOVDQA64  X29, X19

#define HASH HASH1; HASH2; HASH3; HASH4; HASH5; HASH6; HASH7; HASH8; HASH9

// BOTH makes key stream and takes what is in Z24 to Z27 into the hash.
#define BOTH(LAST) \
	COUNT \
	HASH1 \
	ROUND(Z1) \
	HASH2 \
	ROUND(Z2) \
	HASH3 \
	ROUND(Z3) \
	HASH4 \
	ROUND(Z4) \
	HASH5 \
	ROUND(Z5) \
	HASH6 \
	ROUND(Z6) \
	HASH7 \
	ROUND(Z7) \
	HASH8 \
	ROUND(Z8) \
	HASH9 \
	ROUND(Z9) \
	LASTROUNDS(LAST)

// func crypt(s *schedule, counter, hash *[16]byte, dst, src *byte, n, what int)
TEXT ·crypt(SB), NOSPLIT, $0-56
	MOVQ s+0(FP), AX
	MOVQ counter+8(FP), BX
	MOVQ hash+16(FP), CX
	MOVQ dst+24(FP), DI
	MOVQ src+32(FP), SI
	MOVQ n+40(FP), DX
	MOVQ what+48(FP), R9
	MOVQ ROUNDS(AX), R8
	LEAQ POWERS(AX), R10

	VBROADCASTI32X4 reverse<>(SB), Z18
	VMOVDQU64       poly<>(SB), X31
	VMOVDQU64       (CX), X19
	CMPQ            R9, $2
	JEQ             hashing

	VBROADCASTI32X4 0(AX), Z0
	VBROADCASTI32X4 16(AX), Z1
	VBROADCASTI32X4 32(AX), Z2
	VBROADCASTI32X4 48(AX), Z3
	VBROADCASTI32X4 64(AX), Z4
	VBROADCASTI32X4 80(AX), Z5
	VBROADCASTI32X4 96(AX), Z6
	VBROADCASTI32X4 112(AX), Z7
	VBROADCASTI32X4 128(AX), Z8
	VBROADCASTI32X4 144(AX), Z9
	VBROADCASTI32X4 160(AX), Z14
	CMPQ            R8, $10
	JEQ             keysDone
	VMOVDQA64       Z14, Z10
	VBROADCASTI32X4 176(AX), Z11
	VBROADCASTI32X4 192(AX), Z12
	VBROADCASTI32X4 208(AX), Z13
	VBROADCASTI32X4 224(AX), Z14

keysDone:
	VBROADCASTI32X4 (BX), Z15
	VPSHUFB         flipCounter<>(SB), Z15, Z15
	VPADDD          first<>(SB), Z15, Z15

	// What was sealed, or is to be opened, waits in Z24 to Z27, and is hashed while the next stream is made.
	CMPQ DX, $256
	JB   short
	STREAM(firstLast)
	JMP  apply

next:
	CMPQ DX, $256
	JB   last
	BOTH(nextLast)

apply:
	CMPQ      R9, $1
	JEQ       open
	VPXORQ    0(SI), Z20, Z24
	VPXORQ    64(SI), Z21, Z25
	VPXORQ    128(SI), Z22, Z26
	VPXORQ    192(SI), Z23, Z27
	VMOVDQU64 Z24, 0(DI)
	VMOVDQU64 Z25, 64(DI)
	VMOVDQU64 Z26, 128(DI)
	VMOVDQU64 Z27, 192(DI)
	JMP       applied

open:
	VMOVDQU64 0(SI), Z24
	VMOVDQU64 64(SI), Z25
	VMOVDQU64 128(SI), Z26
	VMOVDQU64 192(SI), Z27
	VPXORQ    Z24, Z20, Z20
	VPXORQ    Z25, Z21, Z21
	VPXORQ    Z26, Z22, Z22
	VPXORQ    Z27, Z23, Z23
	VMOVDQU64 Z20, 0(DI)
	VMOVDQU64 Z21, 64(DI)
	VMOVDQU64 Z22, 128(DI)
	VMOVDQU64 Z23, 192(DI)

applied:
	ADDQ $256, SI
	ADDQ $256, DI
	SUBQ $256, DX
	JMP  next

last:
	TESTQ DX, DX
	JZ    hashLast
	BOTH(lastLast)
	JMP   tail

hashing:
	CMPQ      DX, $256
	JB        short
	VMOVDQU64 0(SI), Z24
	VMOVDQU64 64(SI), Z25
	VMOVDQU64 128(SI), Z26
	VMOVDQU64 192(SI), Z27
	HASH
	ADDQ      $256, SI
	SUBQ      $256, DX
	JMP       hashing

short:
	TESTQ DX, DX
	JZ    done
	CMPQ  R9, $2
	JEQ   tail
	STREAM(shortLast)

tail:
	// The first block's power is the one of as many blocks as there are.
	LEAQ 15(DX), R11
	SHRQ $4, R11
	SHLQ $4, R11
	LEAQ POWERSEND(AX), R10
	SUBQ R11, R10

	// K1 to K4 are the bytes that there are of each 64.
	XORQ     R13, R13
	MOVQ     $-1, R12
	BZHIQ    DX, R12, R11
	KMOVQ    R11, K1
	SUBQ     $64, DX
	CMOVQLT  R13, DX
	BZHIQ    DX, R12, R11
	KMOVQ    R11, K2
	SUBQ     $64, DX
	CMOVQLT  R13, DX
	BZHIQ    DX, R12, R11
	KMOVQ    R11, K3
	SUBQ     $64, DX
	CMOVQLT  R13, DX
	BZHIQ    DX, R12, R11
	KMOVQ    R11, K4

	VMOVDQU8.Z 0(SI), K1, Z24
	VMOVDQU8.Z 64(SI), K2, Z25
	VMOVDQU8.Z 128(SI), K3, Z26
	VMOVDQU8.Z 192(SI), K4, Z27
	CMPQ       R9, $1
	JA         hashLast
	VPXORQ     Z24, Z20, Z20
	VPXORQ     Z25, Z21, Z21
	VPXORQ     Z26, Z22, Z22
	VPXORQ     Z27, Z23, Z23
	VMOVDQU8   Z20, K1, 0(DI)
	VMOVDQU8   Z21, K2, 64(DI)
	VMOVDQU8   Z22, K3, 128(DI)
	VMOVDQU8   Z23, K4, 192(DI)
	JEQ        hashLast // flags of CMPQ: nothing between sets any
	VMOVDQU8.Z Z20, K1, Z24
	VMOVDQU8.Z Z21, K2, Z25
	VMOVDQU8.Z Z22, K3, Z26
	VMOVDQU8.Z Z23, K4, Z27

hashLast:
	HASH

done:
	VMOVDQU64 X19, (CX)
	VZEROUPPER
	RET

// func encryptBlock(s *schedule, dst, src *[16]byte)
TEXT ·encryptBlock(SB), NOSPLIT, $0-24
	MOVQ   s+0(FP), AX
	MOVQ   dst+8(FP), DI
	MOVQ   src+16(FP), SI
	MOVQ   ROUNDS(AX), CX
	MOVOU  (SI), X0
	MOVOU  (AX), X1
	PXOR   X1, X0
	DECQ   CX

round:
	ADDQ   $16, AX
	MOVOU  (AX), X1
	AESENC X1, X0
	DECQ   CX
	JNZ    round
	MOVOU  16(AX), X1
	AESENCLAST X1, X0
	MOVOU  X0, (DI)
	RET

// func substitute(word uint32) uint32
TEXT ·substitute(SB), NOSPLIT, $0-12
	MOVL   word+0(FP), X0
	PSHUFD $0, X0, X0
	AESKEYGENASSIST $0, X0, X0
	MOVL   X0, ret+8(FP)
	RET
