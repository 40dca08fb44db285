#cloud-boothook
#!/bin/sh
# Runs early on every boot, as root, and may run again at any time: it changes only what differs.
# First this machine learns to end itself when nobody looks after it; then one key may log in.
umask 022
changed=
# put FILE MODE: makes FILE from standard input.
put() {
	mkdir -p "${1%/*}"
	cat > "$1.new"
	chmod "$2" "$1.new"
	if [ -f "$1" ] && [ "$(cat "$1")" = "$(cat "$1.new")" ]; then
		rm -f "$1.new"
	else
		mv -f "$1.new" "$1"
		changed=yes
	fi
}

put /etc/orca/deadman 0755 << 'END'
#!/bin/sh
# Powers the machine off when it has lived for too long or when nobody was in contact for too long.
# All times are seconds of uptime, because the wall clock may jump. Contact is one line with the
# uptime in /run/orca/contact. The age is also kept on disk, so that a reboot does not make it young.
max_age=@max_lifetime@
max_silence=@max_lost_contact@
# number FILE DEFAULT
number() {
	n=$(cat "$1" 2> /dev/null)
	case $n in
	'' | *[!0-9]*) echo "$2" ;;
	*) echo "$n" ;;
	esac
}
mkdir -p /run/orca /var/lib/orca
now=$(cut -d. -f1 /proc/uptime)
started=$(number /run/orca/started "$now")
last=$(number /run/orca/tick "$now")
age=$(number /run/orca/age "$(number /var/lib/orca/age 0)")
age=$((age + now - last))
echo "$started" > /run/orca/started
echo "$now" > /run/orca/tick
echo "$age" > /run/orca/age
echo "$age" > /var/lib/orca/age.new && mv -f /var/lib/orca/age.new /var/lib/orca/age
silence=$((now - $(number /run/orca/contact "$started")))
if [ "$age" -ge "$max_age" ]; then
	why="has lived for $age s, of $max_age s that it may"
elif [ "$silence" -ge "$max_silence" ]; then
	why="had no contact for $silence s, of $max_silence s that it may"
else
	exit 0
fi
echo "orca: this machine $why; powering off" > /dev/console
systemctl --no-block poweroff || poweroff -f
END

put /etc/systemd/system/orca-deadman.service 0644 << 'END'
[Unit]
Description=Power off when too old or out of contact
[Service]
Type=oneshot
ExecStart=/etc/orca/deadman
END

put /etc/systemd/system/orca-deadman.timer 0644 << 'END'
[Unit]
Description=Look whether to power off
[Timer]
OnActiveSec=1s
OnUnitInactiveSec=@tick@s
AccuracySec=1s
[Install]
WantedBy=timers.target
END

put /etc/orca/authorized_keys 0600 << 'END'
@ssh_public@
END

put /etc/orca/sshd_config 0600 << 'END'
Port @port@
@listen@
HostKey /etc/orca/ssh_host_ed25519_key
PidFile none
AllowUsers root
PermitRootLogin prohibit-password
AuthenticationMethods publickey
AuthorizedKeysFile /etc/orca/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
# A locked root password would refuse the key too, without PAM.
UsePAM yes
UseDNS no
PrintMotd no
PrintLastLog no
X11Forwarding no
AllowAgentForwarding no
AllowStreamLocalForwarding no
PermitTunnel no
GatewayPorts no
AllowTcpForwarding yes
PermitOpen 127.0.0.1:@kubelet_port@
PermitListen 127.0.0.1:@gateway_port@
MaxSessions 100
MaxStartups 100
LoginGraceTime 30
ClientAliveInterval 15
ClientAliveCountMax 4
END

put /etc/systemd/system/orca-sshd.service 0644 << 'END'
[Unit]
Description=SSH for one key
After=network.target
StartLimitIntervalSec=0
[Service]
ExecStartPre=/bin/mkdir -p -m 0755 /run/sshd
ExecStart=/usr/sbin/sshd -D -e -f /etc/orca/sshd_config
Restart=always
RestartSec=1
KillMode=process
[Install]
WantedBy=multi-user.target
END

# Not enabled: it runs when its files have come. Here it is known to systemd before anybody waits for it.
put /etc/systemd/system/orca-kubelet.service 0644 << 'END'
@kubelet_unit@
END

# The host key: made here, never elsewhere. One that a power cut tore is made again.
key=/etc/orca/ssh_host_ed25519_key
if ! ssh-keygen -y -P '' -f "$key" > /dev/null 2>&1; then
	rm -f "$key" "$key.pub"
	ssh-keygen -q -t ed25519 -N '' -C '' -f "$key"
fi
public=$(ssh-keygen -y -P '' -f "$key" | cut -d ' ' -f 1,2)

# Never waits: what starts here may be ordered after what runs this.
if [ "$changed" ]; then
	systemctl daemon-reload
	systemctl --quiet enable orca-deadman.timer orca-sshd.service
fi
systemctl --no-block start orca-deadman.timer
systemctl --no-block start orca-sshd.service
{ printf '\n@console_begin@%s@console_end@\n' "$public" > /dev/console; } 2> /dev/null
exit 0
