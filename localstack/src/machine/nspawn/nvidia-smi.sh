#!/bin/sh
# The driver's own tool, as far as programs read it.
gpus='@TABLE@'
fields= format= period= previous=
for argument; do
	case $previous in
	-l) period=$argument ;;
	-lms) period=$(printf '%d.%03d' $((argument / 1000)) $((argument % 1000))) ;;
	esac
	previous=$argument
	case $argument in
	--help-query-gpu)
		for field in index name uuid pci.bus_id driver_version utilization.gpu utilization.memory memory.total \
			memory.used memory.free temperature.gpu power.draw ecc.errors.uncorrected.volatile.total; do
			echo "\"$field\""
		done
		exit 0
		;;
	-L | --list-gpus)
		echo '@LIST@'
		exit 0
		;;
	--query-gpu=*) fields=${argument#*=} ;;
	--format=*) format=,${argument#*=}, ;;
	esac
done
if [ -z "$fields" ]; then
	echo "NVIDIA-SMI 570.172.08    Driver Version: 570.172.08    CUDA Version: 12.8"
	echo '@LIST@'
	exit 0
fi
show() {
	echo "$gpus" | awk -F'|' -v fields="$fields" -v format="$1" -v count=@COUNT@ '
BEGIN {
	unit["memory.total"] = unit["memory.used"] = unit["memory.free"] = "MiB"
	unit["utilization.gpu"] = unit["utilization.memory"] = "%"
	unit["power.draw"] = unit["power.limit"] = "W"
	n = split(fields, field, ",")
	for (i = 1; i <= n; i++) {
		gsub(/^ +| +$/, "", field[i])
		line = line (i > 1 ? ", " : "") field[i] (field[i] in unit && format !~ /,nounits,/ ? " [" unit[field[i]] "]" : "")
	}
	if (format !~ /,noheader,/) print line
}
{
	value["index"] = $1; value["name"] = value["gpu_name"] = $2; value["uuid"] = value["gpu_uuid"] = $3
	value["memory.total"] = value["memory.free"] = $4; value["memory.used"] = 0
	value["pci.bus_id"] = value["gpu_bus_id"] = $5
	value["utilization.gpu"] = value["utilization.memory"] = 0
	value["temperature.gpu"] = 30; value["power.draw"] = "15.00"; value["power.limit"] = "300.00"
	value["driver_version"] = "570.172.08"; value["count"] = count; value["pstate"] = "P8"; value["mig.mode.current"] = "[N/A]"
	line = ""
	for (i = 1; i <= n; i++) {
		f = field[i]
		line = line (i > 1 ? ", " : "") (f in value ? value[f] : "[N/A]") (f in unit && format !~ /,nounits,/ ? " " unit[f] : "")
	}
	print line
}'
}
show "$format"
while [ -n "$period" ]; do
	sleep "$period"
	show "$format,noheader,"
done
