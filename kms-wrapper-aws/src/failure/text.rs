//! Text of others, made fit for an error.

/// Longest text in characters; a request's message is a sentence or two.
const MAX_CHARS: usize = 400;

/// Digits of base64 or hex in a row from which on they are taken for a secret: a key of 32 bytes has 44 or 64,
/// and the ids in messages have at most 32.
const SECRET_LEN: usize = 40;

/// The first line, without control characters, and with nothing that could be key material or a token.
///
/// AWS' message about a wrong signature repeats the request's headers in its later lines, the session token
/// among them.
pub(super) fn one_line(text: &str) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let mut cleaned = String::new();
    let mut run = String::new();
    for char in line.chars().filter(|char| !char.is_control()) {
        if char.is_ascii_alphanumeric() || matches!(char, '+' | '/' | '=') {
            run.push(char);
        } else {
            append(&mut cleaned, &run);
            run.clear();
            cleaned.push(char);
        }
    }
    append(&mut cleaned, &run);
    match cleaned.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &cleaned[..end]),
        None => cleaned,
    }
}

fn append(cleaned: &mut String, run: &str) {
    if run.len() < SECRET_LEN {
        cleaned.push_str(run);
    } else {
        cleaned.push_str("[hidden]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_service_is_kept() {
        for message in [
            "User: arn:aws:iam::111122223333:user/app is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "Key 'arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab' does not exist",
        ] {
            assert_eq!(one_line(message), message);
        }
    }

    #[test]
    fn what_could_be_a_secret_is_left_out() {
        let base64 = "c2VjcmV0IGtleSBvZiAzMiBieXRlcywgaW4gYmFzZTY0LiA=";
        assert_eq!(
            one_line(&format!("can't read \"{base64}\" here")),
            "can't read \"[hidden]\" here"
        );
        let signature = "The signature does not match.\n\nThe Canonical String should have been\nx-amz-security-token:abc";
        assert_eq!(one_line(signature), "The signature does not match.");
    }

    #[test]
    fn a_long_text_is_cut_and_control_characters_are_dropped() {
        let long = one_line(&"é ".repeat(1000));
        assert_eq!(long.chars().count(), MAX_CHARS + 1);
        assert_eq!(one_line("a\u{1b}[31mb"), "a[31mb");
    }
}
