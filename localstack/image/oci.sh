# Container images without a daemon: layers are tar files, an image is an OCI layout over shared blobs.

# Keeps FILE as a blob under its digest; prints "sha256:DIGEST SIZE".
blob() {
  local digest; digest=$(sha256sum < "$2" | cut -d' ' -f1)
  mkdir -p "$1/blobs/sha256"
  mv "$2" "$1/blobs/sha256/$digest"
  printf 'sha256:%s %s\n' "$digest" "$(stat -c %s "$1/blobs/sha256/$digest")"
}

# layer STORE NAME FOLDER: packs a folder. STORE/NAME.layer then holds its digest, size and uncompressed digest.
layer() {
  local store=$1 name=$2 folder=$3 tar=$1/$2.tar diff
  # An overlay's whiteout would need another form in a layer; none of ours deletes anything.
  if find "$folder" -type c -not -path "$folder/dev/*" | grep -q .; then die "layer $name deletes files of the one below it"; fi
  tar --create --exclude "./dev/*" --file "$tar" --sort=name --mtime=@0 --numeric-owner --one-file-system -C "$folder" .
  diff=$(sha256sum < "$tar" | cut -d' ' -f1)
  gzip -n -3 "$tar"
  printf '%s sha256:%s\n' "$(blob "$store" "$tar.gz")" "$diff" > "$store/$name.layer"
}

# image STORE NAME CONFIG LAYER...: writes the layout STORE/images/NAME, with + for every slash. CONFIG is the JSON of the image's `config`.
image() {
  local store=$1 name=$2 config=$3 diffs='' layers='' one digest size diff
  shift 3
  for one in "$@"; do
    read -r digest size diff < "$store/$one.layer"
    diffs+="${diffs:+,}\"$diff\""
    layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"$digest\",\"size\":$size}"
  done
  printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "$(dpkg --print-architecture)" "$config" "$diffs" > "$store/json"
  read -r digest size < <(blob "$store" "$store/json")
  printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","digest":"%s","size":%s},"layers":[%s]}' \
    application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.config.v1+json "$digest" "$size" "$layers" > "$store/json"
  read -r digest size < <(blob "$store" "$store/json")
  local layout=$store/images/${name//\//+}
  mkdir -p "$layout"
  ln -sfn ../../blobs "$layout/blobs"
  echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s","size":%s,"annotations":{"%s":"%s"}}]}\n' \
    application/vnd.oci.image.manifest.v1+json "$digest" "$size" io.containerd.image.name "localhost/$name" > "$layout/index.json"
}
