// Printmap prints the map of an NBD export through libnbd: the start, the length and the status of each
// extent.
//
//	printmap URI [BITMAP...]
//
// The binding to libnbd is the part of it that this program needs, over cgo (libnbd.go). A program that
// has libnbd's own Go package gets the same arguments in its callback.
package main

import (
	"bufio"
	"fmt"
	"os"

	"nbdextents"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: printmap URI [BITMAP...]")
		os.Exit(2)
	}
	contexts := []string{"base:allocation"}
	for _, bitmap := range os.Args[2:] {
		contexts = append(contexts, "qemu:dirty-bitmap:"+bitmap)
	}
	if err := printMap(os.Args[1], contexts); err != nil {
		fmt.Fprintln(os.Stderr, "printmap:", err)
		os.Exit(1)
	}
}

func printMap(uri string, contexts []string) error {
	nbd, err := connect(uri, contexts)
	if err != nil {
		return err
	}
	defer nbd.close()
	survey, err := surveyOf(nbd, contexts)
	if err != nil {
		return err
	}
	defer survey.Close()

	out := bufio.NewWriter(os.Stdout)
	extents := make([]nbdextents.Extent, 512)
	for {
		request, ok, err := survey.NextRequest()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		take := func(context string, offset uint64, entries []uint32) error {
			return survey.Extents32(request.ID, context, offset, entries)
		}
		if err := nbd.blockStatus(request.Length, request.Offset, take); err != nil {
			return err
		}
		if err := survey.ReplyDone(request.ID); err != nil {
			return err
		}
		for {
			n, err := survey.Read(extents)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			for _, extent := range extents[:n] {
				fmt.Fprintln(out, extent.Start, extent.Length, words(extent.Flags))
			}
		}
	}
	// the proof that every byte was described
	if err := survey.Complete(); err != nil {
		return err
	}
	return out.Flush()
}

// surveyOf is a survey of the export. One that can be written to meanwhile is asked for by name.
func surveyOf(nbd *handle, contexts []string) (*nbdextents.Survey, error) {
	options := nbdextents.Options{BlockSize: nbd.minimumBlock(), Writable: !nbd.readOnly()}
	for _, name := range contexts {
		options.Contexts = append(options.Contexts, nbdextents.Context{Name: name})
	}
	return nbdextents.NewSurveyWithOptions(nbd.size(), options)
}

func words(flags nbdextents.Flags) string {
	text := ""
	if flags.Has(nbdextents.DirtyKnown) {
		if flags.Has(nbdextents.Dirty) {
			text = "dirty "
		} else {
			text = "clean "
		}
	}
	if flags.Has(nbdextents.Zero) {
		text += "zero"
	} else {
		text += "data"
	}
	if flags.Has(nbdextents.Hole) {
		text += " hole"
	}
	return text
}
