# Prints EC2's notice that it takes this machine away, as soon as there is one; nothing if there was none for a while.
imds=http://169.254.169.254/latest
token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$imds/api/token") || exit 0
i=0
while [ "$i" -lt 6 ]; do
	curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$imds/meta-data/spot/instance-action" && exit 0
	i=$((i + 1))
	sleep 5
done
exit 0
