//! What to do about a main process that goes to the background, as services made for an init script do.

/// Says how the program of a command is kept in the foreground, in the words of its own manual where it is a known one.
pub fn background_hint(command: &[String]) -> String {
    let known = [
        ("nginx", "nginx -g 'daemon off;'"),
        ("apache2ctl", "apache2ctl -D FOREGROUND"),
        ("apachectl", "apachectl -D FOREGROUND"),
        ("apache2", "apache2 -D FOREGROUND"),
        ("httpd", "httpd -D FOREGROUND"),
        ("sshd", "sshd -D -e"),
        ("redis-server", "redis-server --daemonize no"),
        ("crond", "crond -f"),
        ("cron", "cron -f"),
        ("vsftpd", "vsftpd -obackground=NO"),
        ("named", "named -g"),
        ("dnsmasq", "dnsmasq --keep-in-foreground"),
        ("postfix", "postfix start-fg"),
        ("rsyslogd", "rsyslogd -n"),
        ("haproxy", "haproxy -db"),
        ("memcached", "memcached without -d"),
        ("dockerd", "dockerd without --daemonize"),
        ("smbd", "smbd --foreground --no-process-group"),
        ("nmbd", "nmbd --foreground --no-process-group"),
        ("slapd", "slapd -d 0"),
        ("squid", "squid --foreground"),
        ("lighttpd", "lighttpd -D"),
        ("mongod", "mongod without --fork"),
        ("supervisord", "supervisord --nodaemon"),
    ];
    let programs =
        || command.iter().flat_map(|word| word.split_whitespace()).map(|word| word.rsplit('/').next().unwrap_or(word));
    if let Some((name, advice)) = programs().find_map(|program| known.iter().find(|(name, _)| *name == program)) {
        return format!("run {name} in the foreground: {advice}");
    }
    if let Some(fpm) = programs().find(|program| program.starts_with("php-fpm")) {
        return format!("run {fpm} in the foreground: {fpm} -F");
    }
    if programs().any(|program| program == "service" || program == "systemctl" || program == "start-stop-daemon") {
        return "name the program itself as the command, in the foreground, in place of the script that starts it"
            .to_owned();
    }
    "run it in the foreground: a container lasts as long as its main process".to_owned()
}

#[cfg(test)]
mod tests {
    use super::background_hint;

    #[test]
    fn a_known_program_is_told_its_own_option() {
        let hint = |words: &[&str]| background_hint(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(hint(&["/usr/sbin/nginx"]), "run nginx in the foreground: nginx -g 'daemon off;'");
        assert_eq!(hint(&["sh", "-c", "exec /usr/sbin/sshd"]), "run sshd in the foreground: sshd -D -e");
        assert_eq!(hint(&["php-fpm8.2"]), "run php-fpm8.2 in the foreground: php-fpm8.2 -F");
        assert!(hint(&["service", "thing", "start"]).starts_with("name the program itself"));
        assert!(hint(&["mydaemon"]).starts_with("run it in the foreground"));
        assert!(hint(&[]).starts_with("run it in the foreground"));
    }
}
