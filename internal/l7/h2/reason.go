package h2

import "fairlead.io/fairlead/internal/l7/exchange"

// resetReason reads a peer's RST_STREAM.
func resetReason(c code) exchange.Reason {
	return exchange.Reason{Code: reasonCode(c), Unprocessed: c == codeRefused, Detail: "reset by peer"}
}

func reasonCode(c code) exchange.Code {
	switch c {
	case codeNone, codeCancel, codeClosed:
		return exchange.CodeCancel
	case codeRefused:
		return exchange.CodeClosed
	case codeConnect:
		return exchange.CodeConnect
	case codeCalm:
		return exchange.CodeLimit
	case codeInternal:
		return exchange.CodeInternal
	case codeTimeout:
		return exchange.CodeTimeout
	case codeSecurity:
		return exchange.CodeRefused
	}
	return exchange.CodeProtocol
}

// resetCode chooses the RST_STREAM for a reason.
func resetCode(why exchange.Reason) code {
	if why.Unprocessed {
		return codeRefused
	}
	switch why.Code {
	case exchange.CodeNone:
		return codeNone
	case exchange.CodeCancel, exchange.CodeTimeout:
		return codeCancel
	case exchange.CodeConnect:
		return codeConnect
	case exchange.CodeLimit:
		return codeCalm
	case exchange.CodeRefused:
		return codeSecurity
	case exchange.CodeProtocol:
		return codeProtocol
	}
	return codeInternal
}
