package main

/*
#cgo pkg-config: libnbd
#include <stdint.h>
#include <stdlib.h>
#include <libnbd.h>

extern int onExtents(void *user, char *context, uint64_t offset, uint32_t *entries, size_t nr_entries,
                     int *error);

// A Go function cannot be put into a struct of C's directly. user is a number, not an address: a handle of
// Go's garbage collector.
static int block_status(struct nbd_handle *nbd, uint64_t count, uint64_t offset, uintptr_t user)
{
	nbd_extent_callback callback = {.callback = (int (*)(void *, const char *, uint64_t, uint32_t *,
	                                                     size_t, int *)) onExtents,
	                                .user_data = (void *) user};
	return nbd_block_status(nbd, count, offset, callback, 0);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// handle is a connection of libnbd.
type handle struct {
	c *C.struct_nbd_handle
}

// onReply takes one context's part of a reply.
type onReply func(context string, offset uint64, entries []uint32) error

// reply is what the callback reaches by its user pointer.
type reply struct {
	take onReply
	err  error
}

//export onExtents
func onExtents(
	user unsafe.Pointer, context *C.char, offset C.uint64_t, entries *C.uint32_t, nr C.size_t, _ *C.int,
) C.int {
	r := cgo.Handle(uintptr(user)).Value().(*reply)
	list := unsafe.Slice((*uint32)(unsafe.Pointer(entries)), int(nr))
	if r.err = r.take(C.GoString(context), uint64(offset), list); r.err != nil {
		return -1
	}
	return 0
}

// call runs a function of libnbd and returns the error that it left with the thread.
func call(function func() C.int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if function() == -1 {
		return errors.New(C.GoString(C.nbd_get_error()))
	}
	return nil
}

// connect connects and asks for the contexts. The server must grant each of them.
func connect(uri string, contexts []string) (*handle, error) {
	h := &handle{C.nbd_create()}
	if h.c == nil {
		return nil, errors.New("nbd_create failed")
	}
	if err := h.open(uri, contexts); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *handle) open(uri string, contexts []string) error {
	for _, context := range contexts {
		name := C.CString(context)
		defer C.free(unsafe.Pointer(name))
		if err := call(func() C.int { return C.nbd_add_meta_context(h.c, name) }); err != nil {
			return err
		}
	}
	address := C.CString(uri)
	defer C.free(unsafe.Pointer(address))
	if err := call(func() C.int { return C.nbd_connect_uri(h.c, address) }); err != nil {
		return err
	}
	for _, context := range contexts {
		name := C.CString(context)
		defer C.free(unsafe.Pointer(name))
		if C.nbd_can_meta_context(h.c, name) != 1 {
			return fmt.Errorf("the server does not have the context %s", context)
		}
	}
	return nil
}

func (h *handle) size() uint64 { return uint64(C.nbd_get_size(h.c)) }

func (h *handle) readOnly() bool { return C.nbd_is_read_only(h.c) == 1 }

// minimumBlock is 0 where the server announces none.
func (h *handle) minimumBlock() uint32 {
	size := C.nbd_get_block_size(h.c, C.LIBNBD_SIZE_MINIMUM)
	if size < 0 {
		return 0
	}
	return uint32(size)
}

func (h *handle) blockStatus(length, offset uint64, take onReply) error {
	r := &reply{take: take}
	user := cgo.NewHandle(r)
	defer user.Delete()
	err := call(func() C.int {
		return C.block_status(h.c, C.uint64_t(length), C.uint64_t(offset), C.uintptr_t(user))
	})
	if r.err != nil {
		return r.err
	}
	return err
}

func (h *handle) close() { C.nbd_close(h.c) }
