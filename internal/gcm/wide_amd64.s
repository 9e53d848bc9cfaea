// AES-GCM (NIST SP 800-38D, FIPS 197, RFC 8452 appendix A), sixteen blocks at a time, four in each register.

#include "textflag.h"

// The counter, the last word of a block, is big-endian.
DATA flipCounter<>+0x00(SB)/8, $0x0706050403020100
DATA flipCounter<>+0x08(SB)/8, $0x0c0d0e0f0b0a0908
GLOBL flipCounter<>(SB), RODATA|NOPTR, $16

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
GLOBL four<>(SB), RODATA|NOPTR, $16

// x^63 + x^62 + x^57: the upper half of what the polynomial x^128 + x^127 + x^126 + x^121 + 1 has between its ends.
DATA poly<>+0x00(SB)/8, $0xc200000000000000
DATA poly<>+0x08(SB)/8, $0
GLOBL poly<>(SB), RODATA|NOPTR, $16

// Where things are in a schedule.
#define KEYS 0
#define ROUNDS 240
#define POWERS 248
#define POWERSEND (POWERS+256)

#define ROUND(KEY) \
	VAESENC KEY, Z20, Z20 \
	VAESENC KEY, Z21, Z21 \
	VAESENC KEY, Z22, Z22 \
	VAESENC KEY, Z23, Z23

// STREAM makes 256 bytes of key stream in Z20 to Z23, and counts.
#define STREAM(LAST) \
	VPSHUFB Z17, Z15, Z20 \
	VPADDD  Z16, Z15, Z15 \
	VPSHUFB Z17, Z15, Z21 \
	VPADDD  Z16, Z15, Z15 \
	VPSHUFB Z17, Z15, Z22 \
	VPADDD  Z16, Z15, Z15 \
	VPSHUFB Z17, Z15, Z23 \
	VPADDD  Z16, Z15, Z15 \
	VPXORQ  Z0, Z20, Z20 \
	VPXORQ  Z0, Z21, Z21 \
	VPXORQ  Z0, Z22, Z22 \
	VPXORQ  Z0, Z23, Z23 \
	ROUND(Z1) \
	ROUND(Z2) \
	ROUND(Z3) \
	ROUND(Z4) \
	ROUND(Z5) \
	ROUND(Z6) \
	ROUND(Z7) \
	ROUND(Z8) \
	ROUND(Z9) \
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

// MULTIPLY adds DATA times the powers at AT to the product: low in Z28, high in Z29, what lies between in Z30.
#define MULTIPLY(DATA, AT) \
	VPCLMULQDQ $0x00, AT(R10), DATA, Z20 \
	VPCLMULQDQ $0x11, AT(R10), DATA, Z21 \
	VPCLMULQDQ $0x01, AT(R10), DATA, Z22 \
	VPCLMULQDQ $0x10, AT(R10), DATA, Z23 \
	VPXORQ     Z20, Z28, Z28 \
	VPXORQ     Z21, Z29, Z29 \
	VPTERNLOGQ $0x96, Z22, Z23, Z30

// HASH takes the sixteen blocks in Z24 to Z27, as a message has them, into the hash in X19. R10 is where the first one's power is, X31 has poly. It spoils Z20 to Z30.
#define HASH \
	VPSHUFB    Z18, Z24, Z24 \
	VPSHUFB    Z18, Z25, Z25 \
	VPSHUFB    Z18, Z26, Z26 \
	VPSHUFB    Z18, Z27, Z27 \
	VPXORQ     Z19, Z24, Z24 \
	VPCLMULQDQ $0x00, 64(R10), Z25, Z28 \
	VPCLMULQDQ $0x11, 64(R10), Z25, Z29 \
	VPCLMULQDQ $0x01, 64(R10), Z25, Z30 \
	VPCLMULQDQ $0x10, 64(R10), Z25, Z23 \
	VPXORQ     Z23, Z30, Z30 \
	MULTIPLY(Z26, 128) \
	MULTIPLY(Z27, 192) \
	MULTIPLY(Z24, 0) \
	VPSLLDQ    $8, Z30, Z20 \
	VPSRLDQ    $8, Z30, Z21 \
	VPXORQ     Z20, Z28, Z28 \
	VPXORQ     Z21, Z29, Z29 \
	VEXTRACTI64X4 $1, Z28, Y20 \
	VEXTRACTI64X4 $1, Z29, Y21 \
	VPXORQ     Y20, Y28, Y28 \
	VPXORQ     Y21, Y29, Y29 \
	VEXTRACTI32X4 $1, Y28, X20 \
	VEXTRACTI32X4 $1, Y29, X21 \
	VPXORQ     X20, X28, X28 \
	VPXORQ     X21, X29, X29 \
	VPCLMULQDQ $0x00, X31, X28, X20 \
	VPSHUFD    $0x4e, X28, X28 \
	VPXORQ     X20, X28, X28 \
	VPCLMULQDQ $0x00, X31, X28, X20 \
	VPSHUFD    $0x4e, X28, X28 \
	VPTERNLOGQ $0x96, X20, X28, X29 \
	VMOVDQA64  X29, X19

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
	VMOVDQU64       (CX), X19
	CMPQ            R9, $2
	JEQ             next

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
	VBROADCASTI32X4 flipCounter<>(SB), Z17
	VBROADCASTI32X4 four<>(SB), Z16
	VBROADCASTI32X4 (BX), Z15
	VPSHUFB         Z17, Z15, Z15
	VPADDD          first<>(SB), Z15, Z15

next:
	CMPQ DX, $256
	JB   tail
	CMPQ R9, $2
	JEQ  load
	STREAM(lastRound)

load:
	VMOVDQU64 0(SI), Z24
	VMOVDQU64 64(SI), Z25
	VMOVDQU64 128(SI), Z26
	VMOVDQU64 192(SI), Z27
	CMPQ      R9, $1
	JA        hash
	VPXORQ    Z24, Z20, Z20
	VPXORQ    Z25, Z21, Z21
	VPXORQ    Z26, Z22, Z22
	VPXORQ    Z27, Z23, Z23
	VMOVDQU64 Z20, 0(DI)
	VMOVDQU64 Z21, 64(DI)
	VMOVDQU64 Z22, 128(DI)
	VMOVDQU64 Z23, 192(DI)
	JEQ       hash // flags of CMPQ: nothing between sets any
	VMOVDQA64 Z20, Z24
	VMOVDQA64 Z21, Z25
	VMOVDQA64 Z22, Z26
	VMOVDQA64 Z23, Z27

hash:
	VMOVDQU64 poly<>(SB), X31
	HASH
	ADDQ $256, SI
	ADDQ $256, DI
	SUBQ $256, DX
	JMP  next

tail:
	TESTQ DX, DX
	JZ    done

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

	CMPQ R9, $2
	JEQ  loadTail
	STREAM(lastTailRound)

loadTail:
	VMOVDQU8.Z 0(SI), K1, Z24
	VMOVDQU8.Z 64(SI), K2, Z25
	VMOVDQU8.Z 128(SI), K3, Z26
	VMOVDQU8.Z 192(SI), K4, Z27
	CMPQ       R9, $1
	JA         hashTail
	VPXORQ     Z24, Z20, Z20
	VPXORQ     Z25, Z21, Z21
	VPXORQ     Z26, Z22, Z22
	VPXORQ     Z27, Z23, Z23
	VMOVDQU8   Z20, K1, 0(DI)
	VMOVDQU8   Z21, K2, 64(DI)
	VMOVDQU8   Z22, K3, 128(DI)
	VMOVDQU8   Z23, K4, 192(DI)
	JEQ        hashTail
	VMOVDQU8.Z Z20, K1, Z24
	VMOVDQU8.Z Z21, K2, Z25
	VMOVDQU8.Z Z22, K3, Z26
	VMOVDQU8.Z Z23, K4, Z27

hashTail:
	VMOVDQU64 poly<>(SB), X31
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
