// Command h2capp is an application that speaks HTTP/2 in the clear.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(true)
	srv := &http.Server{Addr: ":8080", Protocols: &protocols, Handler: http.HandlerFunc(serve)}
	fmt.Fprintln(os.Stderr, "h2capp:", srv.ListenAndServe())
	os.Exit(1)
}

// serve reads whatever comes and answers with a few bytes.
func serve(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if _, err := io.WriteString(w, "h2spec wants some bytes to see flow control at work\n"); err != nil {
		panic(http.ErrAbortHandler) // the client must not take a part for the whole
	}
}
