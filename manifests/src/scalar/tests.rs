use super::*;

#[test]
fn plain_words_mean_what_yaml_1_2_says() {
    for (text, meaning) in [
        ("", Meaning::Null),
        ("~", Meaning::Null),
        ("null", Meaning::Null),
        ("true", Meaning::Bool(true)),
        ("FALSE", Meaning::Bool(false)),
        ("0", Meaning::Unsigned(0)),
        ("+12", Meaning::Unsigned(12)),
        ("-12", Meaning::Signed(-12)),
        ("0x1F", Meaning::Unsigned(31)),
        ("0o17", Meaning::Unsigned(15)),
        ("1.10", Meaning::Float(1.1)),
        ("-1e3", Meaning::Float(-1000.0)),
        (".5", Meaning::Float(0.5)),
        ("18446744073709551616", Meaning::Float(18_446_744_073_709_551_616.0)),
    ] {
        assert_eq!(resolve(text), meaning, "{text}");
    }
    for text in [
        "yes",
        "on",
        "n",
        "0700",
        "007",
        "-01",
        "1_000",
        "12:30",
        "1.2.3",
        "0x",
        "0xg",
        "0o8",
        "-",
        "+",
        ".",
        "..",
        "1e",
        "e1",
        "nan",
        "inf",
        ".inf",
        "tRUE",
        "0x1ffffffffffffffff",
        "5m",
        "512Mi",
    ] {
        assert_eq!(resolve(text), Meaning::Text, "{text}");
    }
}
