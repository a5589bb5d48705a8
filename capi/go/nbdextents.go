// Package nbdextents makes one map of a disk from the block status of an NBD server.
//
// A server describes a disk in several contexts (base:allocation, dirty bitmaps, the depth of an
// image), each cut at its own places and reaching its own distance in a reply. A Survey says what to
// ask, takes the (length, flags) entries that libnbd's callbacks get, and hands out merged extents that
// cover the disk exactly once, or an error:
//
//	survey, err := nbdextents.NewSurvey(size, "base:allocation", "qemu:dirty-bitmap:b0")
//	...
//	defer survey.Close()
//	extents := make([]nbdextents.Extent, 512)
//	for {
//		request, ok, err := survey.NextRequest()
//		if err != nil || !ok {
//			break // Complete says whether all is well
//		}
//		// in the callback: survey.Extents32(request.ID, context, offset, entries)
//		if blockStatus(request) != nil {
//			survey.ReplyFailed(request.ID)
//			continue
//		}
//		survey.ReplyDone(request.ID)
//		for n, err := survey.Read(extents); n > 0 && err == nil; n, err = survey.Read(extents) {
//			use(extents[:n])
//		}
//	}
//	err = survey.Complete() // the proof that every byte was described: never leave it out
//
// It is a thin layer over the C library nbd_extents, found by pkg-config.
//
// Every object must be closed. After that its methods return ErrClosed, and closing it again does
// nothing. Objects are independent of each other and may move between goroutines, but one goroutine at a
// time may use an object.
//
// Offsets and lengths are bytes.
package nbdextents

/*
#cgo pkg-config: nbd_extents
#include <stdlib.h>
#include <nbd_extents.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"
)

// ErrClosed is returned by methods of an object that was closed.
var ErrClosed = errors.New("nbdextents: the object is closed")

// Error is a failure of the library, in its words.
type Error struct {
	// Op is the method that failed.
	Op string
	// Message says what failed and with which numbers.
	Message string
}

func (e *Error) Error() string {
	return "nbdextents: " + e.Op + ": " + e.Message
}

// Version is the version of the C library in use.
func Version() string {
	return C.GoString(C.nbdx_version())
}

// failure is the error of a method, with the message that the object keeps.
func failure(op string, message *C.char) error {
	return &Error{Op: op, Message: C.GoString(message)}
}

// made runs a constructor of the library. A constructor that fails leaves its message with the thread,
// so the goroutine must not move to another one in between.
func made[T any](op string, make func() *T) (*T, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	object := make()
	if object == nil {
		return nil, failure(op, C.nbdx_last_error())
	}
	return object, nil
}

// checkName refuses a name with a NUL, where C's strings end: another context would be meant.
func checkName(op, name string) error {
	if strings.IndexByte(name, 0) >= 0 {
		return &Error{Op: op, Message: fmt.Sprintf("the context %q has a NUL inside", name)}
	}
	return nil
}

// first is where C finds the entries of a slice; nil when there are none.
func first[T any](list []T) unsafe.Pointer {
	if len(list) == 0 {
		return nil
	}
	return unsafe.Pointer(&list[0])
}

// table reads a table whose number of rows is known only after a call. read returns that number, below 0
// when it fails, and writes as many rows as there is room for.
func table[T any](read func(rows []T) C.ssize_t) (rows []T, ok bool) {
	rows = make([]T, 32)
	for {
		number := int(read(rows))
		if number < 0 {
			return nil, false
		}
		if number <= len(rows) {
			return rows[:number], true
		}
		rows = make([]T, number)
	}
}
