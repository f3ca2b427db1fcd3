//! Codes of gRPC in the words and numbers of others: their names, and the HTTP status that stands for each.
//!
//! Knows nothing of who failed, or why. Invariant: the mapping is that of `google.rpc.Code`, for every code.

use tonic::Code;

/// The code as `google.rpc.Code` spells it.
#[must_use]
pub fn name(code: Code) -> &'static str {
    row(code).0
}

/// The HTTP status that `google.rpc.Code` gives the code; 499 is a caller that went away.
#[must_use]
pub fn http_status(code: Code) -> u16 {
    row(code).1
}

fn row(code: Code) -> (&'static str, u16) {
    match code {
        Code::Ok => ("OK", 200),
        Code::Cancelled => ("CANCELLED", 499),
        Code::Unknown => ("UNKNOWN", 500),
        Code::InvalidArgument => ("INVALID_ARGUMENT", 400),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", 504),
        Code::NotFound => ("NOT_FOUND", 404),
        Code::AlreadyExists => ("ALREADY_EXISTS", 409),
        Code::PermissionDenied => ("PERMISSION_DENIED", 403),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", 429),
        Code::FailedPrecondition => ("FAILED_PRECONDITION", 400),
        Code::Aborted => ("ABORTED", 409),
        Code::OutOfRange => ("OUT_OF_RANGE", 400),
        Code::Unimplemented => ("UNIMPLEMENTED", 501),
        Code::Internal => ("INTERNAL", 500),
        Code::Unavailable => ("UNAVAILABLE", 503),
        Code::DataLoss => ("DATA_LOSS", 500),
        Code::Unauthenticated => ("UNAUTHENTICATED", 401),
    }
}
