/*
 * The ROM guest: a firmware of 64 KiB that is the whole guest. No kernel, no interrupt, no device
 * but a serial port and the timer, so that its memory at any moment follows from its parameters.
 *
 * It writes a pass number over HOT_PAGES pages from 2 MiB on, SLOT_PAGES in each slot of 10 ms,
 * and before each write checks that the page holds what the pass before left there: memory that a
 * move lost, doubled or took from the wrong moment is printed as "bad PAGE", never overlooked.
 * Every 100 slots it prints "tick N bad M". Its timer stands still while it is paused: what a pause
 * cost is for the micro guest to tell.
 *
 * HOT_PAGES and SLOT_PAGES are given to the assembler.
 */
	.set PIT_PER_SLOT, 11932	/* 1.193182 MHz: 10 ms */
	.set HOT_BASE, 0x200000
	.set SERIAL, 0x3f8
	.set BAD, 0x6000		/* words in low memory */
	.set TICKS, 0x6004

	.section .text
	.globl _start
	.code32
_start:
flat:
	movw $16, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $0x7000, %esp
	inb $0x92, %al			/* address line 20 open */
	orb $2, %al
	outb %al, $0x92
	movb $0x34, %al			/* timer 0 counts down from 65536, over and over */
	outb %al, $0x43
	xorl %eax, %eax
	outb %al, $0x40
	outb %al, $0x40
	movl %eax, BAD
	movl %eax, TICKS
	movl $HOT_BASE, %edi		/* pass 0: every page holds 0 */
	movl $HOT_PAGES, %ecx
clear:
	movl $0, (%edi)
	addl $4096, %edi
	loop clear
	movl $ready, %esi
	call say
	call timer
	movl %eax, %ebp			/* ebp: the timer as last seen */
	movl $1, %edx			/* edx: pass */
	movl $HOT_BASE, %edi		/* edi: next page */
	movl $0, %ebx			/* ebx: what is left over of the time of slots */
slot:
	movl $SLOT_PAGES, %ecx
	jecxz rest
page:
	leal -1(%edx), %eax
	cmpl %eax, (%edi)
	je good
	incl BAD
	movl $bad, %esi
	call say
	movl %edi, %eax
	call number
	movl $end_of_line, %esi
	call say
good:
	movl %edx, (%edi)
	addl $4096, %edi
	cmpl $(HOT_BASE + HOT_PAGES * 4096), %edi
	jb next
	movl $HOT_BASE, %edi
	incl %edx
next:
	loop page
rest:					/* until the slot's time is over */
	call timer
	movl %ebp, %ecx
	subl %eax, %ecx			/* it counts down; 16 bits wrap */
	andl $0xffff, %ecx
	movl %eax, %ebp
	addl %ecx, %ebx
	cmpl $PIT_PER_SLOT, %ebx
	jb rest
	subl $PIT_PER_SLOT, %ebx
	cmpl $(20 * PIT_PER_SLOT), %ebx	/* far behind: what is lost is lost */
	jb in_time
	xorl %ebx, %ebx
in_time:
	incl TICKS
	movl TICKS, %eax
	pushl %edx
	xorl %edx, %edx
	movl $100, %ecx
	divl %ecx
	testl %edx, %edx
	popl %edx
	jnz slot
	movl $tick, %esi
	call say
	movl TICKS, %eax
	call number
	movl $bad_so_far, %esi
	call say
	movl BAD, %eax
	call number
	movl $end_of_line, %esi
	call say
	jmp slot

timer:					/* eax: timer 0 now */
	xorl %eax, %eax
	outb %al, $0x43
	inb $0x40, %al
	movb %al, %ah
	inb $0x40, %al
	xchgb %al, %ah
	movzwl %ax, %eax
	ret

say:					/* the text at esi */
	lodsb
	testb %al, %al
	jz said
	call put
	jmp say
said:
	ret

put:					/* the character in al */
	pushl %edx
	pushl %eax
	movw $(SERIAL + 5), %dx
full:
	inb %dx, %al
	testb $0x20, %al
	jz full
	popl %eax
	movw $SERIAL, %dx
	outb %al, %dx
	popl %edx
	ret

number:					/* eax in decimal */
	pushal
	movl $10, %ebx
	xorl %ecx, %ecx
digit:
	xorl %edx, %edx
	divl %ebx
	pushl %edx
	incl %ecx
	testl %eax, %eax
	jnz digit
out:
	popl %eax
	addb $'0', %al
	call put
	loop out
	popal
	ret

ready:		.asciz "ROM guest ready\r\n"
tick:		.asciz "tick "
bad_so_far:	.asciz " bad "
bad:		.asciz "bad page at "
end_of_line:	.asciz "\r\n"

	.balign 8
table:
	.quad 0
	.quad 0x00cf9a000000ffff	/* 8: code, 4 GiB */
	.quad 0x00cf92000000ffff	/* 16: data, 4 GiB */
table_end:
pointer:
	.word table_end - table - 1
	.long table

	.org 0xff80
	.code16
real:
	cli
	movw $(pointer - _start), %bx
	lgdtl %cs:(%bx)
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmpl $8, $flat
	.org 0xfff0			/* where the processor begins */
	jmp real
	.org 0x10000
