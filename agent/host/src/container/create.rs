//! Making a container up to where its shim can start it, and changing a made one while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel_plan::HostNames;
use evenkeel_schema::{ContainerSpec, ImageConfig, RestartPolicy, TimeSpan};
use evenkeel_shim::fail_point;
use evenkeel_shim::{
    Config, HealthConfig, LogConfig, Request, RestartConfig, RestartPolicy as ShimRestart, StopConfig,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::bundle::{Host, Parts, bundle, hostname, to_json};
use super::cgroup::{Cgroup, Hierarchies};
use super::created::{self, Created};
use super::error::Failure;
use super::files;
use super::inside::Inside;
use super::mounts::{Preparation, default_mounts, stated_mounts};
use super::rootfs::{self, Overlay};
use super::seccomp::Machine;
use super::{ContainerError, Containers, NetworkJoin, NewContainer, Shared, capabilities, user};
use crate::mountpoint::detach;
use crate::tree;
use crate::volume::fill::FillLocks;

/// [`NewContainer`] without borrowed parts, for work on another thread.
struct Wanted {
    spec: ContainerSpec,
    image: evenkeel_schema::Digest,
    image_config: ImageConfig,
    lower: Vec<PathBuf>,
    network: NetworkJoin,
    hosts: Arc<HostNames>,
}

impl Wanted {
    fn of(new: &NewContainer<'_>) -> Wanted {
        Wanted {
            spec: new.spec.clone(),
            image: new.image.id.clone(),
            image_config: new.image.config.clone(),
            lower: new.lower.clone(),
            network: new.network.clone(),
            hosts: Arc::clone(new.hosts),
        }
    }
}

impl Containers {
    /// Makes a container, or completes one that was made in part, lost its mounts with a reboot, or is there already.
    pub async fn create(&self, new: &NewContainer<'_>) -> Result<(), ContainerError> {
        self.begin(new).await?;
        self.complete(new).await
    }

    /// Makes a container as far as its shim needs it: its directories, and what the shim is to keep.
    pub(crate) async fn begin(&self, new: &NewContainer<'_>) -> Result<(), ContainerError> {
        let wanted = Wanted::of(new);
        self.blocking(new.name, move |shared, name| {
            shared.begin(name, &wanted).map_err(|failure| ContainerError::of(name, failure))
        })
        .await
    }

    /// Makes what [`Containers::begin`] left: the root file system and the bundle.
    pub(crate) async fn complete(&self, new: &NewContainer<'_>) -> Result<(), ContainerError> {
        let wanted = Wanted::of(new);
        self.blocking(new.name, move |shared, name| {
            shared.complete(name, &wanted).map_err(|failure| ContainerError::of(name, failure))
        })
        .await
    }

    /// Unmounts the root file system of a container that does not run, so that it is put together anew: what it was put together
    /// from may be gone although it is still mounted.
    pub async fn unmount(&self, name: &evenkeel_schema::Name) -> Result<(), ContainerError> {
        self.blocking(name, |shared, name| {
            let path = shared.rootfs(name);
            let unmounted = detach(&path);
            fail_point!("container.rootfs.unmounted");
            unmounted.map_err(|source| ContainerError::of(name, Failure::File { path, source }))
        })
        .await
    }

    /// Changes what can be changed while the container runs: limits, names, log, restart and health rules.
    pub async fn update(&self, new: &NewContainer<'_>) -> Result<(), ContainerError> {
        let wanted = Wanted::of(new);
        self.blocking(new.name, move |shared, name| {
            let changed = || -> Result<(), Failure> {
                let cgroup = Cgroup::of_host(&shared.cgroup_path(name))?;
                if cgroup.limits()?.is_some() {
                    cgroup.set_limits(&wanted.spec.resources)?;
                    fail_point!("container.limits");
                }
                shared.prepare(name, &wanted, None)?;
                shared.write_shim_config(name, &wanted)
            };
            changed().map_err(|failure| ContainerError::of(name, failure))
        })
        .await?;
        if self.shim_is_alive(new.name).await? {
            self.ask(new.name, &Request::Reload).await?;
            fail_point!("container.reloaded");
        }
        // Last: until here the container is one that differs from its manifest.
        let wanted = Wanted::of(new);
        self.blocking(new.name, move |shared, name| {
            shared.note_created(name, &wanted).map_err(|failure| ContainerError::of(name, failure))
        })
        .await
    }
}

impl Shared {
    /// Reads how a container was made, and tells whether only the copy in its run directory says so any more.
    pub(super) fn made(&self, name: &evenkeel_schema::Name) -> Result<Option<(Created, bool)>, Failure> {
        if let Some(made) = created::read(&self.state(name))? {
            return Ok(Some((made, false)));
        }
        // The copy is no reason to hold anything: what cannot be read is none.
        Ok(created::read(&self.run(name)).unwrap_or(None).map(|made| (made, true)))
    }

    /// Tells whether the root file system is mounted, over a directory of its own that is still there.
    pub(super) fn is_whole(&self, name: &evenkeel_schema::Name) -> Result<bool, Failure> {
        Ok(rootfs::is_mounted(&self.rootfs(name))? && self.state(name).join("upper").is_dir())
    }

    fn begin(&self, name: &evenkeel_schema::Name, wanted: &Wanted) -> Result<(), Failure> {
        let state = self.state(name);
        match self.made(name)? {
            // Its own directory holds changes to another image's files.
            Some((made, _)) if made.image != wanted.image => {
                return Err(Failure::OtherImage { made: made.image, wanted: wanted.image.clone() });
            }
            // What still runs of it after its run directory was wiped would be nobody's any more as soon as there is another.
            Some(_) if !self.run(name).exists() => self.end_stray(name)?,
            Some(_) => {}
            // What runs without any record was made from nobody knows what.
            None if self.is_alive(name)? => self.sweep(name)?,
            None => {}
        }
        if let Some(containers) = state.parent().filter(|containers| !containers.exists()) {
            directory(containers)?;
            tree::spread(containers);
        }
        private_directory(&state)?;
        private_directory(&state.join("logs"))?;
        fail_point!("container.state");
        private_directory(&self.run(name))?;
        fail_point!("container.run");
        directory(&self.paths.statuses())?;
        self.write_shim_config(name, wanted)
    }

    fn write_shim_config(&self, name: &evenkeel_schema::Name, wanted: &Wanted) -> Result<(), Failure> {
        let path = self.shim_config(name);
        let config = self.configure_shim(name, wanted, &Cgroup::of_host(&self.cgroup_path(name))?);
        let json = serde_json::to_vec_pretty(&config).map_err(|source| Failure::Json { path: path.clone(), source })?;
        created::write_whole(&path, &json)?;
        fail_point!("container.shim.config");
        Ok(())
    }

    fn complete(&self, name: &evenkeel_schema::Name, wanted: &Wanted) -> Result<(), Failure> {
        let filling = self.made(name)?.is_none().then_some(&self.filling);
        self.prepare(name, wanted, filling)?;
        self.note_created(name, wanted)
    }

    /// Makes root file system and bundle. With `filling` empty volumes get what the image has at their targets, as Docker does
    /// when it creates a container and never again.
    fn prepare(
        &self,
        name: &evenkeel_schema::Name,
        wanted: &Wanted,
        filling: Option<&FillLocks>,
    ) -> Result<(), Failure> {
        let (state, run, rootfs) = (self.state(name), self.run(name), self.rootfs(name));
        // Runtimes keep copies of bundles there, with environments, readable by whoever comes that far.
        private_directory(&self.paths.runtime_state())?;
        if !self.is_whole(name)? {
            if rootfs::is_mounted(&rootfs)? {
                detach(&rootfs).map_err(|source| Failure::File { path: rootfs.clone(), source })?;
            }
            let (upper, work) = (state.join("upper"), state.join("work"));
            rootfs::mount(&Overlay { lower: &wanted.lower, upper: &upper, work: &work, target: &rootfs })?;
            fail_point!("container.overlay");
        }
        let inside = Inside::open(&rootfs).map_err(|source| Failure::File { path: rootfs.clone(), source })?;
        let stated = wanted.spec.user.as_deref().or(wanted.image_config.user.as_deref());
        let identity = user::look_up(&inside, stated)?;
        self.write_files(name, wanted)?;

        let hierarchies = Hierarchies::of_host()?;
        let mut all = default_mounts(&wanted.spec, &run);
        let with = Preparation { paths: &self.paths, run: &run, inside: &inside, filling };
        all.extend(stated_mounts(&wanted.spec, with)?);
        let bundle = bundle(Parts {
            name,
            spec: &wanted.spec,
            image: &wanted.image_config,
            rootfs: &rootfs,
            mounts: all,
            identity: &identity,
            network: match &wanted.network {
                NetworkJoin::Host => None,
                NetworkJoin::Namespace(path) => Some(path),
            },
            cgroup: self.cgroup_path(name),
            host: Host {
                machine: Machine::this(),
                capabilities: &capabilities::available(),
                cgroup_namespaces: Path::new("/proc/self/ns/cgroup").exists(),
                limits_swap: hierarchies.limit_swap(),
            },
        })?;
        let path = run.join("config.json");
        let json = to_json(&bundle).map_err(|source| Failure::Json { path: path.clone(), source })?;
        created::write_whole(&path, &json)?;
        fail_point!("container.bundle");
        Ok(())
    }

    fn write_files(&self, name: &evenkeel_schema::Name, wanted: &Wanted) -> Result<(), Failure> {
        let own_network = wanted.network != NetworkJoin::Host;
        let host_names = (!own_network).then(|| fs::read_to_string("/etc/hosts").unwrap_or_default());
        let resolv_conf = match own_network || wanted.spec.dns != evenkeel_schema::Dns::default() {
            true => files::resolv_conf(&wanted.spec.dns, &files::host_resolv_conf(own_network), own_network),
            false => files::host_resolv_conf(false),
        };
        let texts = [
            ("hosts", files::hosts(&wanted.hosts, host_names.as_deref())),
            ("hostname", format!("{}\n", hostname(name, &wanted.spec))),
            ("resolv.conf", resolv_conf),
        ];
        for (file, text) in texts {
            let path = self.run(name).join(file);
            files::write_in_place(&path, &text)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
                .map_err(|source| Failure::File { path, source })?;
            fail_point!("container.file");
        }
        Ok(())
    }

    fn note_created(&self, name: &evenkeel_schema::Name, wanted: &Wanted) -> Result<(), Failure> {
        let (state, run) = (self.state(name), self.run(name));
        let (before, is_lost) = self.made(name)?.unzip();
        let created_at = before.as_ref().map_or_else(now, |made| made.created_at.clone());
        let made = Created { spec: wanted.spec.clone(), image: wanted.image.clone(), created_at };
        if is_lost != Some(false) || before.as_ref() != Some(&made) {
            created::write_json(&created::path(&state), &made)?;
        }
        if created::read(&run).unwrap_or(None).as_ref() != Some(&made) {
            let path = created::path(&run);
            let json = serde_json::to_vec(&made).map_err(|source| Failure::Json { path: path.clone(), source })?;
            created::write_whole(&path, &json)?;
        }
        fail_point!("container.noted");
        Ok(())
    }

    fn configure_shim(&self, name: &evenkeel_schema::Name, wanted: &Wanted, cgroup: &Cgroup) -> Config {
        let spec = &wanted.spec;
        let stop_signal = spec.stop_signal.or(wanted.image_config.stop_signal);
        Config {
            id: name.to_string(),
            runtime: self.runtime_line_of(name),
            bundle: self.run(name),
            status: self.paths.status(name),
            socket: self.socket(name),
            log: LogConfig {
                path: self.state(name).join("logs").join("current.log"),
                max_size: spec.log.max_size.0,
                max_files: spec.log.max_files,
            },
            restart: RestartConfig {
                policy: match spec.restart.policy {
                    // They differ only in what a reboot does, which is the agent's matter.
                    RestartPolicy::Always | RestartPolicy::UnlessStopped => ShimRestart::Always,
                    RestartPolicy::OnFailure => ShimRestart::OnFailure,
                    RestartPolicy::Never => ShimRestart::Never,
                },
                max_retries: spec.restart.max_retries,
                initial_ms: milliseconds(spec.restart.backoff.initial),
                max_ms: milliseconds(spec.restart.backoff.max),
                reset_ms: milliseconds(spec.restart.backoff.reset),
            },
            stop: StopConfig {
                signal: stop_signal.map_or(libc::SIGTERM, |signal| signal.0),
                timeout_ms: milliseconds(spec.stop_timeout),
            },
            health: spec.health.as_ref().map(|health| HealthConfig {
                exec: health.exec.clone(),
                interval_ms: milliseconds(health.interval),
                timeout_ms: milliseconds(health.timeout),
                retries: health.retries,
                start_period_ms: milliseconds(health.start_period),
            }),
            cgroups: cgroup.directories(),
        }
    }
}

fn milliseconds(span: TimeSpan) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

/// Gives the present time in RFC 3339.
pub(super) fn now() -> String {
    // The format has no part that could fail for a time of this clock.
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

fn directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// Makes a directory for root alone: environments and files of containers lie below.
pub(super) fn private_directory(path: &Path) -> Result<(), Failure> {
    directory(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(|source| Failure::File { path: path.to_owned(), source })
}
