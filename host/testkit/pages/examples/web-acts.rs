//! `web.page` that does what the last part of the path says; for all others it shows the text of its settings and who asks.

use std::time::Duration;

use platform_sdk::{
    Problem, context, export,
    web::{Body, Page, Request, Response},
};
use platform_testkit_pages::{busy, forever, hoard, trap};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    text: String,
}

struct Acts(String);

export!(web::Page for Acts, grants = ["wasi"]);

impl Page for Acts {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Problem> {
        Ok(Self(settings.text))
    }

    fn answer(&self, request: &Request) -> Response {
        let pieces = |count: usize| Response {
            body: Body::Pieces(Box::new(std::iter::repeat_n(vec![b'a'; 64 << 10], count))),
            ..Response::html(200, "")
        };
        match request.path.rsplit('/').next().unwrap_or_default() {
            "trap" => trap(),
            "loop" => forever(),
            "hoard" => hoard(),
            "endless" => pieces(usize::MAX),
            "gigabyte" => pieces((1 << 30) / (64 << 10)),
            "mebibyte" => pieces(16),
            "late" => {
                // The answer begins, and then nothing comes.
                let stuck = std::iter::once(vec![b'a']).chain(std::iter::from_fn(|| -> Option<Vec<u8>> { forever() }));
                Response { body: Body::Pieces(Box::new(stuck)), ..Response::html(200, "") }
            }
            "away" => Response::see("https://example.com/"),
            "status" => Response::html(700, ""),
            "cookie" => {
                let headers = vec![
                    ("set-cookie", "a=b".to_owned()),
                    ("content-security-policy", "default-src *".to_owned()),
                    ("content-type", "text/html".to_owned()),
                ];
                Response { headers, ..Response::html(200, "<script>alert(1)</script>") }
            }
            "busy" => {
                busy(Duration::from_millis(5));
                self.shown()
            }
            _ => self.shown(),
        }
    }
}

impl Acts {
    fn shown(&self) -> Response {
        let who = context::who().map(|caller| caller.subject).unwrap_or_default();
        Response::new(200, "text/plain", format!("{} {who}", self.0))
    }
}
