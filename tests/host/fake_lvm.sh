#!/bin/sh
# Stands in for LVM's programs where the kernel has no device mapper: one volume group
# of 64 MiB, whose volumes are loop devices over files. What libvirt 9.0 asks of them, no more.
set -eu
store=@STORE@
group=@GROUP@
command=${0##*/}
for last in "$@"; do :; done

size_of() { stat -c %s "$1"; }

used() {
    sum=0
    for file in "$store"/*.lv; do
        [ -e "$file" ] && sum=$((sum + $(size_of "$file")))
    done
    echo "$sum"
}

case $command in
vgscan | vgchange | lvchange) ;;
pvs) echo "  /dev/none $group" ;;
vgs)
    mkdir -p "/dev/$group"
    echo "  67108864:$((67108864 - $(used)))"
    ;;
lvs)
    for file in "$store"/*.lv; do
        [ -e "$file" ] || continue
        name=${file##*/}
        name=${name%.lv}
        size=$(size_of "$file")
        echo "  $name##uuid-$name#/dev/none(0)#linear#1#$size#4194304#$size#-wi-a-----"
    done
    ;;
lvcreate)
    name='' size=''
    while [ $# -gt 0 ]; do
        case $1 in
        --name) name=$2; shift ;;
        -L) size=${2%K}; shift ;;
        -s | --type) echo "no snapshots here" >&2; exit 5 ;;
        esac
        shift
    done
    bytes=$(((size * 1024 + 4194303) / 4194304 * 4194304))
    if [ $((67108864 - $(used))) -lt "$bytes" ]; then
        echo "insufficient free space" >&2
        exit 5
    fi
    # What another volume had there before is in a new one.
    head -c "$bytes" /dev/urandom >"$store/$name.lv"
    device=$(losetup --find --show "$store/$name.lv")
    ln -s "$device" "/dev/$group/$name"
    ;;
lvremove)
    name=${last##*/}
    losetup -d "$(readlink "/dev/$group/$name")"
    rm "/dev/$group/$name" "$store/$name.lv"
    ;;
*)
    echo "$command is not there" >&2
    exit 5
    ;;
esac
